/** How values look in JavaScript, and what cannot be written. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, Extension, encodeValue, FormatError, NumpyArray, read, segment, write } from "../src/index.js";

function roundTrip(value: unknown): unknown {
	const { codec, params, payload } = encodeValue(value);
	return decode(codec, params, payload);
}

test("plain values, sets, maps and large integers come back", () => {
	const value = {
		a: [1, -2.5, null, true, "ü"],
		b: new Set([1, "x"]),
		c: new Map([[1, "one"]]),
		d: 2n ** 70n,
		e: -(2n ** 63n) - 1n,
	};
	assert.deepEqual(roundTrip(value), value);
	assert.deepEqual(roundTrip(2 ** 40), 2 ** 40);
	assert.deepEqual(roundTrip(2n ** 60n), 2n ** 60n);
});

test("a tuple is an array, a decimal an extension", () => {
	assert.deepEqual(decode("msgpack", {}, Buffer.from("d5019101", "hex")), [1]);
	assert.deepEqual(decode("msgpack", {}, Buffer.from("d508a131", "hex")), new Extension(8, "1"));
});

test("an array of numpy gives its numbers", () => {
	const array = new NumpyArray("<i4", [3], Buffer.from(Int32Array.from([1, 2, 3]).buffer));
	assert.deepEqual(array.toTypedArray(), Int32Array.from([1, 2, 3]));
});

test("what cannot be stored exactly is refused by its place", () => {
	assert.throws(() => encodeValue({ a: [undefined] }), /the value\.a\[0\] is undefined/);
	assert.throws(() => encodeValue([() => 1]), /the value\[0\] is function/);
	assert.throws(() => encodeValue({ when: new URL("https://example.com") }), /the value\.when is not plain data/);
	for (const value of ["\ud800", { "\ud800": 1 }]) assert.throws(() => encodeValue(value), /half a surrogate pair/);
	assert.throws(() => encodeValue({ a: new Array(1) }), /the value\.a\[0\] is undefined/);
	for (const date of [new Date(Number.NaN), new Date(8.64e15)]) {
		assert.throws(() => encodeValue([date]), /the value\[0\] is a date that Python does not have/);
	}
	for (const value of [new Set([[1]]), new Map([[{ a: 1 }, 2]])]) {
		assert.throws(() => encodeValue(value), /the value holds a member or key that Python cannot hash/);
	}
	for (const value of [
		new Set([1, true]),
		new Set([new Date(0), new Date(0)]),
		new Map<unknown, unknown>([
			[1n, "a"],
			[1, "b"],
		]),
	]) {
		assert.throws(() => encodeValue(value), /the value holds two members or keys that are equal in Python/);
	}
});

test("a note on the order of keys that does not name each of them once is left alone", async () => {
	assert.deepEqual(Object.keys((await read({ a: 1, b: 2, __id__: "xcargo-order:1,0" })) as object), ["b", "a"]);
	for (const note of ["1,5", "0,1,1", "0"]) {
		const row = { a: 1, b: 2, __id__: `xcargo-order:${note}` };
		assert.deepEqual(await read(row), row);
	}
});

test("a dictionary with the key __proto__ is read or refused, never changed", async () => {
	const row = JSON.parse('{"__proto__": {"a": 1}, "b": 2}');
	assert.deepEqual(Object.entries((await read(row)) as object), Object.entries(row));
	const { payload } = encodeValue(row);
	assert.throws(() => decode("msgpack", {}, payload), FormatError);
});

test("an object of another Dag or without fetch is refused", async () => {
	const root = "s3://bucket/xcom";
	const { row, object } = write("x".repeat(100), {
		root,
		coordinate: { dag: "a b", run: "r", task: "t", key: "k" },
		compression: "zstd",
	});
	const fetch = async () => object;
	assert.equal(await read(row, { root, fetch, dag: "a b" }), "x".repeat(100));
	await assert.rejects(read(row, { root, fetch, dag: "other" }), /not an object of Dag other/);
	await assert.rejects(read(row), /needs the options root and fetch/);
});

test("an id becomes a segment of an object key", () => {
	assert.deepEqual(["a.b-c_1", "ü/~", "", ".."].map(segment), ["a.b-c_1", "~C3~BC~2F~7E", "~", "~2E~2E"]);
	assert.match(segment("é".repeat(100)), /^(~C3~A9){18}~\.[0-9a-f]{32}$/);
});
