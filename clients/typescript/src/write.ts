/** From a value to an object and its row, so that Python pulls it. */

import { zstdCompressSync } from "node:zlib";
import { ExtData, encode as pack } from "@msgpack/msgpack";
import { blake3 } from "@noble/hashes/blake3.js";
import { Table, tableToIPC } from "apache-arrow";
import { type Envelope, type Params, sign } from "./envelope.js";
import { type Coordinate, objectKey } from "./keys.js";

/** What a value is stored as. */
export interface Encoded {
	readonly codec: string;
	readonly type: string;
	readonly params: Params;
	readonly payload: Uint8Array;
	readonly suffix: string;
}

export interface WriteOptions {
	/** Where objects are stored, such as `s3://bucket/xcom`. */
	readonly root: string;
	readonly coordinate: Coordinate;
	/** `none` unless given. Never larger: what does not compress is stored as it is. */
	readonly compression?: "none" | "zstd";
	readonly signingKey?: { readonly name: string; readonly secret: Uint8Array };
}

/** An object to store under its key below the root, then the row to hand on. */
export interface Written {
	readonly key: string;
	readonly object: Uint8Array;
	readonly row: Envelope;
}

/**
 * Encode a value: bytes, an Arrow table, or nested JSON-like values, which may hold bytes, bigint, Set, Map and Date.
 *
 * @throws TypeError for anything else: functions, symbols, undefined, instances of classes.
 */
export function write(value: unknown, { root, coordinate, compression = "none", signingKey }: WriteOptions): Written {
	const { codec, type, params, payload, suffix } = encodeValue(value);
	const compressed = compression === "zstd" ? zstdCompressSync(payload) : payload;
	const isSmaller = compressed.length < payload.length;
	const object = isSmaller ? compressed : payload;
	const key = objectKey(coordinate, isSmaller ? `${suffix}.zst` : suffix);
	const row: Envelope = {
		__id__: "xcargo/1",
		type,
		size_bytes: payload.length,
		stored_bytes: object.length,
		uri: `${root.replace(/\/*$/, "")}/${key}`,
		codec,
		...(Object.keys(params).length ? { params } : {}),
		compression: isSmaller ? "zstd" : "none",
		checksum: `blake3:${Buffer.from(blake3(object)).toString("hex")}`,
		created_at: new Date().toISOString().replace("Z", "+00:00"),
		created_by: "xcargo-typescript 0.1.0",
	};
	const signature = signingKey && { signature: sign(row, signingKey.name, signingKey.secret) };
	return { key, object, row: { ...row, ...signature } };
}

/** The payload of a value, with the codec and params to decode it. */
export function encodeValue(value: unknown): Encoded {
	if (value instanceof Uint8Array) return { codec: "bytes", type: "bytes", params: {}, payload: value, suffix: ".bin" };
	if (value instanceof Table) {
		const params = { type: "pyarrow.Table", shape: [value.numRows, value.numCols] };
		return { codec: "arrow", type: "pyarrow.Table", params, payload: tableToIPC(value, "file"), suffix: ".arrow" };
	}
	return { codec: "msgpack", type: pythonType(value), params: {}, payload: packed(value), suffix: ".msgpack" };
}

function pythonType(value: unknown): string {
	if (value === null) return "NoneType";
	if (typeof value === "string") return "str";
	if (typeof value === "boolean") return "bool";
	if (typeof value === "number") return Number.isSafeInteger(value) ? "int" : "float";
	if (typeof value === "bigint") return "int";
	if (Array.isArray(value)) return "list";
	return value instanceof Set ? "set" : value instanceof Date ? "datetime" : "dict";
}

function packed(value: unknown): Uint8Array {
	return pack(lowered(value, "the value"), { useBigInt64: true });
}

/** The value in what MessagePack holds as it is; everything else as an extension. */
function lowered(value: unknown, place: string): unknown {
	if (Number.isSafeInteger(value)) return isOf32Bits(value as number) ? value : BigInt(value as number);
	if (typeof value === "bigint" && BigInt.asIntN(64, value) !== value) return extension(4, littleEndian(value));
	if (typeof value === "string" && !value.isWellFormed()) throw new TypeError(`${place} holds half a surrogate pair`);
	if (["undefined", "function", "symbol"].includes(typeof value)) throw new TypeError(`${place} is ${typeof value}`);
	if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
	if (Array.isArray(value)) return Array.from(value, (item, index) => lowered(item, `${place}[${index}]`)); // holes too
	if (value instanceof Set) return extension(2, lowered(distinct([...value], place), place));
	if (value instanceof Map) {
		return extension(15, lowered([distinct([...value.keys()], place), [...value.values()]], place));
	}
	if (value instanceof Date) return extension(10, datetime(value, place));
	const prototype = Object.getPrototypeOf(value);
	if (prototype !== Object.prototype && prototype !== null) throw new TypeError(`${place} is not plain data`);
	const items = Object.entries(value);
	return Object.fromEntries(items.map(([key, item]) => [lowered(key, place), lowered(item, `${place}.${key}`)]));
}

/** Members of a set or keys, unless Python could not hash one or would take two for one. */
function distinct(items: readonly unknown[], place: string): readonly unknown[] {
	const identities = new Set(items.map((item) => identity(item, place)));
	if (identities.size < items.length)
		throw new TypeError(`${place} holds two members or keys that are equal in Python`);
	return items;
}

/** What Python compares a member of a set or a key by: 1, 1n and true are one. */
function identity(item: unknown, place: string): string {
	if (typeof item === "boolean" || Number.isInteger(item)) return `number ${BigInt(item as number)}`;
	if (typeof item === "number" || typeof item === "bigint") return `number ${item}`;
	if (typeof item === "string") return `text ${item}`;
	if (item === null) return "null";
	if (item instanceof Date) return `date ${item.getTime()}`;
	if (item instanceof Uint8Array) return `bytes ${Buffer.from(item).toString("hex")}`;
	throw new TypeError(`${place} holds a member or key that Python cannot hash`);
}

/** Whether the packer writes the number as an integer; a larger one only as a bigint. */
function isOf32Bits(value: number): boolean {
	return value >= -(2 ** 31) && value < 2 ** 32;
}

function extension(number: number, data: unknown): ExtData {
	return new ExtData(number, pack(data, { useBigInt64: true }));
}

function datetime(value: Date, place: string): unknown[] {
	const year = value.getUTCFullYear();
	if (!(year >= 1 && year <= 9999)) throw new TypeError(`${place} is a date that Python does not have`); // or none
	const date = [year, value.getUTCMonth() + 1, value.getUTCDate()];
	const time = [value.getUTCHours(), value.getUTCMinutes(), value.getUTCSeconds(), value.getUTCMilliseconds() * 1000];
	return [...date, ...time, 0, ["offset", 0, null]];
}

function littleEndian(value: bigint): Uint8Array {
	const bytes: number[] = [];
	for (let rest = value; ; rest >>= 8n) {
		const byte = Number(BigInt.asUintN(8, rest));
		bytes.push(byte);
		if ((rest === 0n && byte < 128) || (rest === -1n && byte >= 128)) return Uint8Array.from(bytes);
	}
}
