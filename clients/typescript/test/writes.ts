/** Writes values below a folder, `node writes.js FOLDER`, and prints their rows, one JSON line each. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { tableFromArrays } from "apache-arrow";
import { write } from "../src/index.js";

const folder = process.argv[2] as string;
const values = [
	{
		name: "x",
		numbers: [1, -1, 2.5, 1e300, 2 ** 32, -(2 ** 53 - 1)],
		nothing: null,
		nested: { yes: true, no: false, text: "ü" },
	},
	[
		new Uint8Array([0, 255]),
		2n ** 63n,
		2n ** 100n,
		-(2n ** 64n),
		new Set([1, 2]),
		new Map<unknown, unknown>([
			[1, "a"],
			["b", 2],
		]),
	],
	new Date("2026-11-29T01:02:03.456Z"),
	new Uint8Array(1000).fill(7),
	tableFromArrays({
		id: Int32Array.from([1, 2, 3]),
		price: Float64Array.from([0.5, 1.5, 2.5]),
		city: ["Oslo", "Rome", "Oslo"],
	}),
	"the same words again and again ".repeat(100),
];
for (const [mapIndex, value] of values.entries()) {
	const coordinate = {
		dag: "a dag",
		run: "manual__2026-11-29T01:02:03+00:00",
		task: "t",
		key: "return_value",
		mapIndex,
	};
	const signingKey = { name: "2026", secret: Uint8Array.from({ length: 32 }, (_, index) => index) };
	const { key, object, row } = write(value, {
		root: pathToFileURL(folder).href,
		coordinate,
		compression: "zstd",
		signingKey,
	});
	const path = join(folder, key);
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, object);
	console.log(JSON.stringify(row));
}
