/**
 * Read and write what xcargo stores: docs/format.md of the project describes it.
 *
 * @example
 * const value = await read(row, { root: "s3://bucket/xcom", fetch: download });
 */

import { decode, type ExtensionHook } from "./codecs.js";
import { isEnvelope, type ReadOptions, readPayload } from "./envelope.js";

export { decode, Extension, type ExtensionHook, NumpyArray, PythonValue, toJavaScript } from "./codecs.js";
export { type Envelope, FormatError, isEnvelope, type Keys, type ReadOptions, readPayload, sign } from "./envelope.js";
export { type Coordinate, objectKey, segment } from "./keys.js";
export { encodeValue, type WriteOptions, type Written, write } from "./write.js";

/**
 * The value of a row, the JSON in the column `value` of Airflow's table `xcom`.
 *
 * @throws FormatError if the row, or the object it refers to, is damaged, tampered with or unknown.
 */
export async function read(row: unknown, options: ReadOptions = {}, hook?: ExtensionHook): Promise<unknown> {
	if (!isEnvelope(row)) return inOrder(row);
	return decode(row.codec, row.params ?? {}, await readPayload(row, options), hook);
}

const ORDER = "xcargo-order:";

/** A plain value without the keys that hold the order of its others, each dictionary in that order. */
function inOrder(value: unknown): unknown {
	if (Array.isArray(value)) return value.map(inOrder);
	if (typeof value !== "object" || value === null) return value;
	const items = new Map(Object.entries(value).map(([key, item]) => [key, inOrder(item)]));
	const order = items.get("__id__");
	if (typeof order !== "string" || !order.startsWith(ORDER)) return Object.fromEntries(items);
	const keys = [...items.keys()].filter((key) => key !== "__id__").sort(byLengthThenBytes);
	const inNotedOrder = order
		.slice(ORDER.length)
		.split(",")
		.map((position) => keys[Number(position)]);
	const noted = new Set(inNotedOrder);
	if (inNotedOrder.length !== keys.length || !keys.every((key) => noted.has(key))) return Object.fromEntries(items); // changed since
	return Object.fromEntries(inNotedOrder.map((key) => [key, items.get(key as string)]));
}

function byLengthThenBytes(left: string, right: string): number {
	return Buffer.byteLength(left) - Buffer.byteLength(right) || Buffer.compare(Buffer.from(left), Buffer.from(right));
}
