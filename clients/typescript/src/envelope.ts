/** A row and its object: from stored bytes to the verified payload. */

import { createHmac, timingSafeEqual, webcrypto } from "node:crypto";
import { blake3 } from "@noble/hashes/blake3.js";
import { decompress } from "./compression.js";
import { segment } from "./keys.js";

/** What is stored is damaged, was tampered with, or is of a kind that this reader does not know. */
export class FormatError extends Error {
	override name = "FormatError";
}

export type Params = Readonly<Record<string, unknown>>;

/** A row whose value is behind an envelope. Unknown fields are ignored. */
export interface Envelope {
	readonly __id__: string;
	readonly type: string;
	readonly codec: string;
	readonly params?: Params;
	readonly size_bytes: number;
	readonly stored_bytes: number;
	readonly compression: string;
	readonly uri?: string;
	readonly data?: string;
	readonly checksum?: string;
	readonly chunks?: ChunkTable;
	readonly encryption?: Encryption;
	readonly dag?: string;
	readonly signature?: string;
	readonly preview?: string;
	readonly created_at: string;
	readonly created_by?: string;
}

interface ChunkTable {
	readonly payload: readonly (readonly [number, number])[];
	readonly stored?: readonly number[];
	readonly digests: string;
}

interface Encryption {
	readonly algorithm: string;
	readonly key: string;
	readonly salt: string;
	readonly object_key?: string;
}

/** Keys by name, 32 bytes each. */
export type Keys = Readonly<Record<string, Uint8Array>>;

export interface ReadOptions {
	/** The URL below which objects may be read, such as `s3://bucket/xcom`. Without it only values inside rows are read. */
	readonly root?: string;
	/** The bytes of an object, by its URL. */
	readonly fetch?: (uri: string) => Promise<Uint8Array>;
	/** The Dag whose row it is: an object or signed row of another Dag is refused. */
	readonly dag?: string;
	/** If given, a row without the signature of one of them is refused. */
	readonly signingKeys?: Keys;
	readonly encryptionKeys?: Keys;
}

interface Chunk {
	readonly size: number;
	readonly stored: number;
	readonly digest?: Uint8Array;
}

const TAG_BYTES = 16;
const DIGEST_BYTES = 16;
const MAX_CHUNK_BYTES = 32 * 1024 * 1024;

/** Whether a row's value is behind an envelope; otherwise the row is the value. */
export function isEnvelope(row: unknown): row is Envelope {
	return typeof row === "object" && row !== null && "__id__" in row && String(row.__id__).startsWith("xcargo/");
}

/** The payload of an envelope: fetched, verified, decrypted, decompressed. */
export async function readPayload(row: Envelope, options: ReadOptions = {}): Promise<Uint8Array> {
	check(row.__id__ === "xcargo/1", `the row is in format ${row.__id__}, this reader knows xcargo/1`);
	check(isCount(row.size_bytes) && isCount(row.stored_bytes), "a size is not a number of bytes");
	if (options.signingKeys) verifySignature(row, options.signingKeys, options.dag);
	const stored = await storedBytes(row, options);
	check(stored.length === row.stored_bytes, `the object has ${stored.length} bytes, not ${row.stored_bytes}`);
	const chunks = verifiedChunks(row, stored);
	const decrypt = row.encryption && (await decryptor(row, row.encryption, options, chunks.length));
	const payload = new Uint8Array(row.size_bytes);
	let from = 0;
	let to = 0;
	for (const [number, { size, stored: length }] of chunks.entries()) {
		let bytes = stored.subarray(from, from + length);
		const isCompressed = !row.chunks || length - (decrypt ? TAG_BYTES : 0) < size;
		const compression = isCompressed ? row.compression : "none";
		if (decrypt) bytes = await decrypt(bytes, number, size, compression);
		payload.set(await decompress(bytes, compression, size), to);
		from += length;
		to += size;
	}
	return payload;
}

async function storedBytes(row: Envelope, { root, fetch, dag }: ReadOptions): Promise<Uint8Array> {
	if (row.uri === undefined) {
		check(typeof row.data === "string", "the envelope has neither uri nor data");
		return Buffer.from(row.data, "base64");
	}
	check(root && fetch, `reading ${row.uri} needs the options root and fetch`);
	const key = objectKey(row.uri, root);
	check(dag === undefined || key.startsWith(`${segment(dag)}/`), `${row.uri} is not an object of Dag ${dag}`);
	return fetch(row.uri);
}

function objectKey(uri: string, root: string): string {
	const prefix = root.replace(/\/*$/, "/");
	const key = uri.slice(prefix.length);
	const isBelow = uri.startsWith(prefix) && /^[\w.~%@/-]+$/.test(key) && !/(^|\/)\.{0,2}(\/|$)/.test(key);
	check(isBelow, `${uri} is not below ${root}`);
	return key;
}

/** The sizes of all chunks, after the checksum of the object was compared. */
function verifiedChunks(row: Envelope, stored: Uint8Array): readonly Chunk[] {
	if (!row.chunks) {
		const checksum = `blake3:${hex(blake3(stored))}`;
		check(row.uri === undefined || row.checksum === checksum, "the checksum does not fit");
		return [{ size: row.size_bytes, stored: stored.length }];
	}
	const chunks = chunkTable(row.chunks, row.encryption ? TAG_BYTES : 0, row.size_bytes);
	const numbers = new BigUint64Array(
		[...chunks.map((chunk) => chunk.size), ...chunks.map((chunk) => chunk.stored)].map(BigInt),
	);
	const hashed = [new Uint8Array(numbers.buffer), ...chunks.map((chunk) => chunk.digest as Uint8Array)];
	check(row.checksum === `blake3-chunks:${hex(blake3(Buffer.concat(hashed)))}`, "the table of chunks was changed");
	check(sum(chunks.map((chunk) => chunk.stored)) === stored.length, "the chunks do not add up to the object");
	check(sum(chunks.map((chunk) => chunk.size)) === row.size_bytes, "the chunks do not add up to the payload");
	let start = 0;
	for (const [number, chunk] of chunks.entries()) {
		const digest = blake3(stored.subarray(start, start + chunk.stored)).subarray(0, DIGEST_BYTES);
		check(Buffer.compare(digest, chunk.digest as Uint8Array) === 0, `the checksum of chunk ${number} does not fit`);
		start += chunk.stored;
	}
	return chunks;
}

function chunkTable(table: ChunkTable, tagBytes: number, limit: number): Chunk[] {
	const digests = Buffer.from(table.digests, "base64");
	const most = digests.length / DIGEST_BYTES;
	const sizes: number[] = [];
	let total = 0;
	for (const [size, count] of table.payload) {
		const isChunk = isCount(size) && size > 0 && size <= MAX_CHUNK_BYTES && isCount(count);
		total += size * count;
		check(isChunk && sizes.length + count <= most && total <= limit, "the table of chunks is damaged");
		for (let i = 0; i < count; i++) sizes.push(size);
	}
	check(sizes.length === most && (table.stored ?? sizes).length === most, "the table of chunks is damaged");
	return sizes.map((size, number) => {
		const stored = table.stored?.[number] ?? size + tagBytes;
		check(isCount(stored), "the table of chunks is damaged");
		return { size, stored, digest: digests.subarray(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES) };
	});
}

type Decrypt = (bytes: Uint8Array, number: number, size: number, compression: string) => Promise<Uint8Array>;

async function decryptor(row: Envelope, encryption: Encryption, options: ReadOptions, count: number): Promise<Decrypt> {
	check(encryption.algorithm === "aes-256-gcm", `unknown encryption ${encryption.algorithm}`);
	const secret = options.encryptionKeys?.[encryption.key];
	check(secret, `needs the encryption key ${encryption.key}`);
	check(row.uri !== undefined && options.root, "an encrypted value is in an object, below the option root");
	const own = objectKey(row.uri, options.root);
	const key = encryption.object_key ?? own;
	check(key.split("/")[0] === own.split("/")[0], "a copy of an encrypted object of another Dag");
	const { subtle } = webcrypto;
	const derivation = {
		name: "HKDF",
		hash: "SHA-256",
		salt: Buffer.from(encryption.salt, "base64"),
		info: Buffer.from("xcargo/1 object key"),
	};
	const master = await subtle.importKey("raw", new Uint8Array(secret), "HKDF", false, ["deriveKey"]);
	const derived = await subtle.deriveKey(derivation, master, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
	return async (bytes, number, size, compression) => {
		const nonce = new Uint8Array(12);
		new DataView(nonce.buffer).setBigUint64(4, BigInt(number));
		const last = number === count - 1 ? 1 : 0;
		const context = ["xcargo/1", key, row.codec, number, last, size, compression].join("\0");
		const algorithm = { name: "AES-GCM", iv: nonce, additionalData: Buffer.from(context) };
		try {
			return new Uint8Array(await subtle.decrypt(algorithm, derived, new Uint8Array(bytes)));
		} catch {
			throw new FormatError(`chunk ${number} was not encrypted with key ${encryption.key}, or was changed`);
		}
	};
}

/** The signature of a row: `hmac-sha256:<key name>:<hex>`. */
export function sign(row: object, name: string, key: Uint8Array): string {
	const { signature: _, ...signed } = row as Record<string, unknown>;
	const digest = createHmac("sha256", key)
		.update(`xcargo envelope\0${canonicalJson(signed)}`)
		.digest("hex");
	return `hmac-sha256:${name}:${digest}`;
}

function verifySignature(row: Envelope, keys: Keys, dag: string | undefined): void {
	check(typeof row.signature === "string", "the row is not signed");
	const name = row.signature.split(":")[1] ?? "";
	const key = Object.hasOwn(keys, name) ? keys[name] : undefined;
	check(key, `the row is signed with the unknown key ${name}`);
	const expected = Buffer.from(sign(row, name, key));
	const actual = Buffer.from(row.signature);
	check(expected.length === actual.length && timingSafeEqual(expected, actual), "the signature does not fit");
	check(row.uri !== undefined || dag === undefined || row.dag === dag, `the row is not of Dag ${dag}`);
}

/** JSON as Python's `json.dumps(value, sort_keys=True)` writes it. */
export function canonicalJson(value: unknown): string {
	if (Array.isArray(value)) return `[${value.map(canonicalJson).join(", ")}]`;
	if (typeof value === "object" && value !== null) {
		const fields = Object.entries(value).sort(([left], [right]) => byCodePoint(left, right));
		return `{${fields.map(([name, field]) => `${canonicalJson(name)}: ${canonicalJson(field)}`).join(", ")}}`;
	}
	check(typeof value !== "number" || Number.isSafeInteger(value), "a signed row holds a number that is no integer");
	return JSON.stringify(value).replace(/[\u007f-\uffff]/g, unicodeEscape);
}

function unicodeEscape(character: string): string {
	return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function byCodePoint(left: string, right: string): number {
	return Buffer.compare(Buffer.from(left, "utf8"), Buffer.from(right, "utf8"));
}

function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("hex");
}

function isCount(value: unknown): value is number {
	return Number.isSafeInteger(value) && (value as number) >= 0;
}

function sum(numbers: readonly number[]): number {
	return numbers.reduce((total, number) => total + number, 0);
}

/** Throws FormatError unless something holds. */
export function check(holds: unknown, message: string): asserts holds {
	if (!holds) throw new FormatError(message);
}
