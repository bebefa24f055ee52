/** From a payload to a value. */

import { type DecoderOptions, ExtensionCodec, decode as unpack } from "@msgpack/msgpack";
import { type Table, tableFromIPC } from "apache-arrow";
import { check, FormatError, type Params } from "./envelope.js";

/** A value that JavaScript has no type for: an extension of a nested value, by its number in the format. */
export class Extension {
	constructor(
		readonly number: number,
		readonly data: unknown,
	) {}
}

/** A value of a codec that only Python can rebuild: an instance, rows, an image. */
export class PythonValue {
	constructor(
		readonly codec: string,
		readonly params: Params,
		readonly content: unknown,
	) {}
}

/** An array of numpy: its memory as it is stored, and how to look at it. */
export class NumpyArray {
	constructor(
		readonly dtype: unknown,
		readonly shape: readonly number[],
		readonly bytes: Uint8Array,
		/** Whether the first axis changes fastest. */
		readonly isFortran = false,
	) {}

	/** The elements, in the order of the memory; for numbers of a little-endian dtype. */
	toTypedArray(): NumberArray {
		const type = typeof this.dtype === "string" ? ARRAY_TYPES[this.dtype] : undefined;
		check(type, `no typed array holds elements of dtype ${JSON.stringify(this.dtype)}`);
		return new type(this.bytes.slice().buffer);
	}
}

// biome-ignore format: by kind
type NumberArray =
	| Int8Array | Int16Array | Int32Array | BigInt64Array
	| Uint8Array | Uint16Array | Uint32Array | BigUint64Array
	| Float32Array | Float64Array;

const ARRAY_TYPES: Readonly<Record<string, new (buffer: ArrayBuffer) => NumberArray>> = {
	"|i1": Int8Array,
	"<i2": Int16Array,
	"<i4": Int32Array,
	"<i8": BigInt64Array,
	"|u1": Uint8Array,
	"|b1": Uint8Array,
	"<u2": Uint16Array,
	"<u4": Uint32Array,
	"<u8": BigUint64Array,
	"<f4": Float32Array,
	"<f8": Float64Array,
};

/** Makes a value of an extension's number and data. */
export type ExtensionHook = (number: number, data: unknown) => unknown;

const IN_OTHER_CODEC = 0;
const PART = 48;
const ARROW = ["arrow", "arrow-stream", "pandas"];
const NESTED = ["object", "library", "rows", "pydantic"];
const OTHERS = ["airflow-serde", "image", "memory-file", "numpy", "skops"];

/** The value of a payload. */
export function decode(
	codec: string,
	params: Params,
	payload: Uint8Array,
	hook: ExtensionHook = toJavaScript,
): unknown {
	try {
		return decoded(codec, params, payload, hook);
	} catch (error) {
		if (error instanceof FormatError) throw error;
		throw new FormatError(`the payload is not a value of codec ${codec}`, { cause: error });
	}
}

function decoded(codec: string, params: Params, payload: Uint8Array, hook: ExtensionHook): unknown {
	if (codec === "msgpack") return nested(payload, params, hook);
	if (["bytes", "file", "stream"].includes(codec)) return payload;
	if (ARROW.includes(codec) && (codec !== "pandas" || isArrowFile(payload))) return table(payload);
	const isScalar = codec === "pandas";
	const holdsObjects = codec === "numpy" && (params.packed === true || params.dtype === "|O" || params.dtype === "T");
	if (isScalar || holdsObjects || NESTED.includes(codec))
		return new PythonValue(codec, params, nested(payload, {}, hook));
	if (codec === "numpy" && !("class" in params)) return array(params, payload);
	check(codec !== "pickle", "a pickle can run any code: it is never read");
	check(OTHERS.includes(codec), `unknown codec ${codec}`);
	return new PythonValue(codec, params, payload);
}

function table(payload: Uint8Array): Table {
	check(isArrowFile(payload), "not an Arrow file");
	return tableFromIPC(payload);
}

function isArrowFile(payload: Uint8Array): boolean {
	return Buffer.from(payload.subarray(0, 6)).toString() === "ARROW1";
}

function array(params: Params, payload: Uint8Array): NumpyArray {
	const shape = params.shape as readonly number[];
	const items = shape.reduce((product, length) => product * length, 1);
	const itemBytes =
		typeof params.dtype === "string" ? Number(/^[<>|=][biufc](\d+)$/.exec(params.dtype)?.[1]) : Number.NaN;
	check(Number.isNaN(itemBytes) || items * itemBytes === payload.length, "the array does not have its shape");
	return new NumpyArray(params.dtype, shape, payload, params.order === "F");
}

function nested(payload: Uint8Array, params: Params, hook: ExtensionHook): unknown {
	const end = payload.length - Number(params.table_bytes ?? 0);
	const start = end - Number(params.tree_bytes ?? end);
	check(start >= 0 && end >= start, "the parts of the payload overlap");
	const parts: unknown[] = params.table_bytes ? JSON.parse(Buffer.from(payload.subarray(end)).toString()) : [];
	const extensionCodec = new ExtensionCodec();
	const options: DecoderOptions = { extensionCodec, useBigInt64: true };
	for (let number = 0; number < 128; number++) {
		extensionCodec.register({
			type: number,
			encode: () => null,
			decode: (data) => extension(number, unpack(data, options)),
		});
	}

	function extension(number: number, data: unknown): unknown {
		if (number === IN_OTHER_CODEC) {
			const [codec, params, inner] = data as [string, Params, Uint8Array];
			return decoded(codec, params, inner, hook);
		}
		if (number === PART) {
			const [codec, params, first, last] = parts[Number(data)] as [string, Params, number, number];
			check(first >= 0 && first <= last && last <= start, "a part is not within the payload");
			return decoded(codec, params, payload.subarray(first, last), hook);
		}
		return hook(number, narrow(data));
	}

	return narrow(unpack(payload.subarray(start, end), options));
}

/** Integers that a number holds exactly become numbers; those of 64 bits arrive as bigint. */
function narrow(value: unknown): unknown {
	if (typeof value === "bigint") return BigInt.asIntN(53, value) === value ? Number(value) : value;
	if (Array.isArray(value)) {
		for (const [index, item] of value.entries()) value[index] = narrow(item);
	} else if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
		const map = value as Record<string, unknown>;
		for (const key of Object.keys(map)) map[key] = narrow(map[key]);
	}
	return value;
}

/** The usual form of extensions: tuples as arrays, sets as Set, large integers as bigint. */
export function toJavaScript(number: number, data: unknown): unknown {
	switch (number) {
		case 1: // tuple
		case 7: // bytearray
		case 16: // a part of deeply nested values
			return data;
		case 2:
		case 3:
			return new Set(data as unknown[]);
		case 4:
			return integer(data as Uint8Array);
		case 15:
		case 20:
		case 21: {
			const [keys, values] = data as [unknown[], unknown[]];
			return new Map(keys.map((key, index) => [key, values[index]]));
		}
		default:
			return new Extension(number, data);
	}
}

function integer(littleEndian: Uint8Array): bigint {
	const hex = Buffer.from(littleEndian).reverse().toString("hex");
	return BigInt.asIntN(8 * littleEndian.length, BigInt(`0x${hex || "0"}`));
}
