// An array: in numbers, as a picture, and item by item.

import { ask } from "./api.js";
import { button, h, number, short, showAnswer } from "./dom.js";
import { bars, heat, line } from "./plots.js";

export function arrayView(where, value) {
	const summary = h("div", { class: "cards" }, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
	const picture = h("div", {});
	const items = h("div", { class: "grid data", tabindex: "0", role: "region", "aria-label": "Items" });
	const outer = value.shape.slice(0, -2);
	const indexes = outer.map(() => 0);
	const get = (part, more) => ask(where.path("array"), { ...where.query, part, indexes: indexes.join(","), ...more });
	const draw = () => {
		if (value.shape.length) showAnswer(picture, get("picture"), (answer) => pictureOf(answer, value));
		page(0, 0);
	};
	const page = (start, first) => showAnswer(items, get("page", { start, first }), (answer) => pageOf(answer, page));
	showAnswer(summary, get("summary"), summaryOf);
	draw();
	const choose = outer.map((size, axis) => {
		const input = h("input", {
			type: "number",
			class: "input short",
			min: 0,
			max: size - 1,
			value: 0,
			"aria-label": `Index along axis ${axis}`,
		});
		input.addEventListener("change", () => {
			indexes[axis] = Math.min(Math.max(0, Number(input.value)), size - 1);
			draw();
		});
		return h("label", {}, `axis ${axis} of ${number(size)}: `, input);
	});
	return h(
		"div",
		{ class: "array-view" },
		summary,
		choose.length ? h("div", { class: "bar" }, choose) : null,
		picture,
		items,
	);
}

function summaryOf(answer) {
	const card = (name, text) =>
		h("div", { class: "card" }, h("div", { class: "name" }, name), h("div", { class: "big" }, text));
	const of =
		answer.sampled !== undefined && answer.sampled < answer.count
			? `of a sample of ${number(answer.sampled)} items`
			: "";
	return [
		card("shape", answer.shape.map(number).join(" × ") || "one item"),
		card("dtype", answer.dtype),
		answer.min !== undefined
			? [
					card("least", short(answer.min)),
					card("mean", short(answer.mean)),
					card("greatest", short(answer.max)),
					card("std", short(answer.std)),
				]
			: null,
		answer.not_finite ? card("not finite", number(answer.not_finite)) : null,
		answer.bins
			? h(
					"div",
					{ class: "card wide" },
					h("div", { class: "name" }, `distribution ${of}`),
					bars(answer.bins, `${short(answer.min)} to ${short(answer.max)}`, { width: 220, height: 44 }),
				)
			: null,
	];
}

function pictureOf(answer, value) {
	if (answer.kind === "line" && answer.values.some((one) => one !== null))
		return line(answer.points, answer.values, shown([answer.values.length], value.shape, value.dtype));
	if (answer.kind === "heat" && answer.cells.flat().some((one) => one !== null)) {
		return heat(answer.cells, shown([answer.rows.length, answer.columns.length], value.shape.slice(-2), value.dtype));
	}
	return null;
}

/** How many of the items a picture shows. */
function shown(part, whole, dtype) {
	const [some, all] = [part, whole].map((sizes) => sizes.map(number).join(" × "));
	const what = dtype.startsWith("complex") ? "magnitudes" : "items";
	return some === all ? `all ${all} ${what}` : `${some} of ${all} ${what}, evenly spread`;
}

function pageOf(answer, page) {
	const columns = answer.cells[0]?.length ?? 0;
	const body = answer.cells.map((row, n) =>
		h(
			"tr",
			{},
			h("th", { scope: "row", class: "index" }, number(answer.start + n)),
			row.map((cell) => h("td", { class: "end" }, cell)),
		),
	);
	const head = h(
		"tr",
		{},
		h("th", { scope: "col", class: "index" }, "#"),
		Array.from({ length: columns }, (_, n) => h("th", { scope: "col", class: "end" }, number(answer.first + n))),
	);
	return [
		h("table", {}, h("thead", {}, head), h("tbody", {}, body)),
		h(
			"div",
			{ class: "bar foot" },
			button("‹", () => page(Math.max(0, answer.start - 50), answer.first), {
				"aria-label": "Rows before",
				disabled: answer.start === 0,
			}),
			h(
				"span",
				{},
				`rows ${number(answer.start + 1)}–${number(answer.start + answer.cells.length)} of ${number(answer.rows)}`,
			),
			button("›", () => page(answer.start + 50, answer.first), {
				"aria-label": "Next rows",
				disabled: answer.start + 50 >= answer.rows,
			}),
			answer.columns > 20
				? [
						button("‹", () => page(answer.start, Math.max(0, answer.first - 20)), {
							"aria-label": "Columns before",
							disabled: answer.first === 0,
						}),
						h(
							"span",
							{},
							`columns ${number(answer.first + 1)}–${number(answer.first + columns)} of ${number(answer.columns)}`,
						),
						button("›", () => page(answer.start, answer.first + 20), {
							"aria-label": "Next columns",
							disabled: answer.first + 20 >= answer.columns,
						}),
					]
				: null,
		),
	];
}
