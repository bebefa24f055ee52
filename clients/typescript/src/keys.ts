/** Object keys. */

import { createHash, randomBytes } from "node:crypto";

const MAX_SEGMENT_BYTES = 144;
const HEAD_BYTES = 110;

/** Where an XCom belongs to. */
export interface Coordinate {
	readonly dag: string;
	readonly run: string;
	readonly task: string;
	readonly key: string;
	readonly mapIndex?: number;
}

/** A new object key below a root. Two calls never return the same one. */
export function objectKey({ dag, run, task, key, mapIndex }: Coordinate, suffix = ""): string {
	const mapped = mapIndex === undefined || mapIndex < 0 ? [] : [String(mapIndex)];
	const folder = [...[dag, run, task].map(segment), ...mapped].join("/");
	return `${folder}/${segment(key)}~${randomBytes(8).toString("hex")}${suffix}`;
}

/** An id as a segment of an object key. */
export function segment(text: string): string {
	if (["", ".", ".."].includes(text)) return text.replaceAll(".", "~2E") || "~";
	const bytes = Buffer.from(text);
	const escaped = Array.from(bytes, (byte) => {
		const character = String.fromCharCode(byte);
		return /[\w.-]/.test(character) ? character : `~${byte.toString(16).toUpperCase().padStart(2, "0")}`;
	}).join("");
	if (escaped.length <= MAX_SEGMENT_BYTES) return escaped;
	const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 32);
	return `${escaped.slice(0, HEAD_BYTES).replace(/~.?$/, "")}~.${digest}`;
}
