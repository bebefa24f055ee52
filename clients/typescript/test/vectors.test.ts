/** Every vector of docs/format/vectors: its value is read, or it is refused. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { DataType, Table, Vector } from "apache-arrow";
import { type Envelope, FormatError, NumpyArray, PythonValue, read } from "../src/index.js";

interface Case {
	readonly row: Envelope;
	readonly object?: string;
	readonly keys?: Record<string, string>;
	readonly signing_keys?: Record<string, string>;
	readonly value?: unknown;
	readonly refused?: string;
}

const VECTORS = new URL("../../../../docs/format/vectors/", import.meta.url);

for (const name of readdirSync(VECTORS)) {
	const vector: Case = JSON.parse(readFileSync(new URL(name, VECTORS), "utf8"));
	if (vector.refused) {
		test(`${name}: refused, ${vector.refused}`, () => assert.rejects(neutralValue(vector), FormatError));
	} else {
		test(`${name}: read`, async () => assert.deepEqual(await neutralValue(vector), vector.value));
	}
}

async function neutralValue({ row, object, keys, signing_keys }: Case): Promise<unknown> {
	const options = {
		root: "memory://test/xcom",
		fetch: async () => Buffer.from(object ?? "", "base64"),
		encryptionKeys: secrets(keys ?? {}),
		...(signing_keys ? { signingKeys: secrets(signing_keys) } : {}),
	};
	return neutral(await read(row, options, (number, data) => ({ $extension: number, data })));
}

function secrets(keys: Record<string, string>): Record<string, Uint8Array> {
	return Object.fromEntries(Object.entries(keys).map(([name, key]) => [name, Buffer.from(key, "base64")]));
}

/** The value in the JSON of docs/format.md, "Vectors". */
function neutral(value: unknown): unknown {
	if (typeof value === "bigint")
		return Number.isSafeInteger(Number(value)) ? Number(value) : { $integer: String(value) };
	if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) return { $float: float(value) };
	if (value instanceof Uint8Array) return { $binary: base64(value) };
	if (value instanceof NumpyArray && typeof value.dtype === "string") {
		return { $array: { shape: value.shape, memory: base64(value.bytes) } };
	}
	if (value instanceof NumpyArray) return { $codec: "numpy", content: { $binary: base64(value.bytes) } };
	if (value instanceof PythonValue) return { $codec: value.codec, content: neutral(value.content) };
	if (value instanceof Table) {
		const columns = value.schema.fields.map(({ name }, index) => [
			name,
			neutral(stored(value.getChildAt(index) as Vector)),
		]);
		return { $table: Object.fromEntries(columns) };
	}
	if (Array.isArray(value)) return value.map(neutral);
	if (typeof value !== "object" || value === null) return value;
	return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, neutral(item)]));
}

/** The items of a column: times as the integers that are stored. */
function stored(column: Vector): unknown[] {
	if (DataType.isTimestamp(column.type)) {
		return column.data.flatMap((data) =>
			Array.from(data.values as BigInt64Array, (time, index) => (data.getValid(index) ? time : null)),
		);
	}
	return Array.from(column, (item) => (item instanceof Vector ? stored(item) : item));
}

function float(value: number): string {
	return Object.is(value, -0) ? "-0.0" : String(value).replace("Infinity", "inf").replace("NaN", "nan");
}

function base64(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("base64");
}
