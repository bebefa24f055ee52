/** Decompression. Each way stops at the size that the envelope tells, so that a small object cannot fill the memory. */

import { promisify } from "node:util";
import { gunzip, zstdDecompress } from "node:zlib";
import { unzipSync } from "fflate";
import { FormatError } from "./envelope.js";

type Decompress = (bytes: Uint8Array, size: number) => Uint8Array | Promise<Uint8Array>;

const METHODS: Readonly<Record<string, Decompress>> = {
	none: (bytes) => bytes,
	zstd: (bytes, size) => promisify(zstdDecompress)(bytes, { maxOutputLength: atLeastOne(size) }),
	gzip: (bytes, size) => promisify(gunzip)(bytes, { maxOutputLength: atLeastOne(size) }),
	zip: (bytes, size) =>
		Object.values(unzipSync(bytes, { filter: (file) => file.originalSize <= size }))[0] ?? new Uint8Array(),
	lz4: async (bytes) => (await import("lz4-napi")).decompressFrame(bytes), // 255 times as many bytes at most
	bz2: async (bytes, size) => (await import("seek-bzip")).default.decode(Buffer.from(bytes), size),
	snappy: async (bytes, size) => snappyFrames(bytes, size, (await import("snappyjs")).default),
	xz: xzStream,
};

/** Exactly `size` bytes, or FormatError. */
export async function decompress(bytes: Uint8Array, compression: string, size: number): Promise<Uint8Array> {
	const method = Object.hasOwn(METHODS, compression) ? METHODS[compression] : undefined;
	if (!method) throw new FormatError(`unknown compression ${compression}`);
	let payload: Uint8Array;
	try {
		payload = await method(bytes, size);
	} catch (error) {
		if (error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND") throw error;
		throw new FormatError(`the object is not ${compression} of ${size} bytes`, { cause: error });
	}
	if (payload.length !== size) throw new FormatError(`decompressed to ${payload.length} bytes, not ${size}`);
	return payload;
}

function atLeastOne(size: number): number {
	return Math.max(size, 1); // zlib takes no limit of zero
}

/** The framing format: chunks of a type, a length of 3 bytes, a checksum of 4 and the data. */
function snappyFrames(bytes: Uint8Array, size: number, snappy: typeof import("snappyjs")): Uint8Array {
	const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
	const payload = new Uint8Array(size);
	let end = 0;
	for (let at = 0; at < view.length; ) {
		const type = view.readUInt8(at);
		const data = view.subarray(at + 4, at + 4 + view.readUIntLE(at + 1, 3));
		at += 4 + data.length;
		if (type > 1) continue; // padding, the stream's name
		const block = type === 0 ? snappy.uncompress(new Uint8Array(data.subarray(4)), size - end) : data.subarray(4);
		payload.set(block, end);
		end += block.length;
	}
	return payload.subarray(0, end);
}

async function xzStream(bytes: Uint8Array, size: number): Promise<Uint8Array> {
	const { XzReadableStream } = (await import("xz-decompress")).default;
	const parts: Uint8Array[] = [];
	let total = 0;
	for await (const part of new XzReadableStream(new Blob([new Uint8Array(bytes)]).stream())) {
		parts.push(part.slice());
		total += part.length;
		if (total > size) throw new FormatError(`more than ${size} bytes`);
	}
	return Buffer.concat(parts);
}
