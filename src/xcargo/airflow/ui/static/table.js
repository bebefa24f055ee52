// A table: the rows and columns on the screen, sorted and filtered by the server.

import { ask } from "./api.js";
import { badge, button, h, instead, name, notice, number, say, short, show } from "./dom.js";
import { bars, ranks } from "./plots.js";

const ROWS = 100;
const COLUMNS = 16;
const OPERATORS = [
	["contains", "contains"],
	["equal", "="],
	["not_equal", "≠"],
	["less", "<"],
	["less_equal", "≤"],
	["greater", ">"],
	["greater_equal", "≥"],
	["null", "is missing"],
	["not_null", "is there"],
];

/** Texts longer than this, or of more lines than one, are shown in part until they are opened. */
const LONG = 48;

export function tableView(where, value) {
	const state = { start: 0, first: 0, sort: null, descending: false, filters: [] };
	const grid = h("div", { class: "grid data", tabindex: "0", role: "region", "aria-label": "Rows" });
	const foot = h("div", { class: "bar foot" });
	const chips = h("div", { class: "chips" });
	const all = [...value.columns.filter((column) => column.index), ...value.columns.filter((column) => !column.index)];
	let spreads = new Map();
	let running = null;

	const load = async () => {
		running?.abort();
		running = new AbortController();
		const columns = all.slice(state.first, state.first + COLUMNS);
		grid.setAttribute("aria-busy", "true");
		try {
			const page = await ask(
				where.path("table"),
				{
					...where.query,
					start: state.start,
					count: ROWS,
					columns: columns.map((column) => column.number).join(","),
					sort: state.sort,
					descending: state.sort === null ? null : state.descending,
				},
				{ signal: running.signal, typed: typed() },
			);
			state.total = page.total;
			state.start = page.start;
			show(grid, table(columns, page, state, act, spread));
			show(foot, pager(page, state, act, value.columns.length));
			say(`${number(page.total)} rows`);
		} catch (problem) {
			if (problem.name !== "AbortError") show(grid, notice(problem.message, problem.hint, "error"));
		} finally {
			grid.removeAttribute("aria-busy");
		}
	};
	const typed = () => ({ filters: state.filters.length ? JSON.stringify(state.filters) : null });
	const act = (change) => {
		Object.assign(state, change);
		if (change.filters) spreads = new Map(); // charts are of the rows that pass
		show(
			chips,
			state.filters.map((filter, n) =>
				chip(value, filter, () => act({ filters: state.filters.filter((_, m) => m !== n), start: 0 })),
			),
		);
		return load();
	};
	const spread = (column) => {
		if (!spreads.has(column.number))
			spreads.set(
				column.number,
				ask(where.path("column"), { ...where.query, number: column.number }, { typed: typed() }),
			);
		return spreads.get(column.number);
	};
	if (!all.length && !value.hidden) return h("p", { class: "hint" }, "The table has no columns.");
	const empty = { start: 0, total: 0, numbers: [], cells: [], waiting: true };
	show(grid, table(all.slice(0, COLUMNS), empty, state, act, spread)); // the columns are known before any row is read
	load();
	const hidden = value.hidden
		? h(
				"p",
				{ class: "hint" },
				`${value.hidden} column${value.hidden === 1 ? "" : "s"} of Python objects ${value.hidden === 1 ? "is" : "are"} not shown.`,
			)
		: null;
	return h(
		"div",
		{ class: "table-view" },
		filterBar(value, (filter) => act({ filters: [...state.filters, filter], start: 0 })),
		chips,
		hidden,
		grid,
		foot,
	);
}

function table(columns, page, state, act, spread) {
	const head = columns.map((column) => {
		const sorted = state.sort === column.number;
		const mark = sorted ? (state.descending ? "▼" : "▲") : "";
		const sort = () => {
			const again = state.sort === column.number; // by now, not when this was drawn
			return act({
				sort: again && state.descending ? null : column.number,
				descending: again && !state.descending,
				start: 0,
			});
		};
		const plot = h("div", { class: "spread" });
		const draw = () =>
			spread(column)
				.then((answer) => show(plot, spreadOf(answer)))
				.catch(() => show(plot));
		if (!page.waiting) observe(plot, draw); // the rows come first
		return h(
			"th",
			{
				scope: "col",
				class: column.align,
				"aria-sort": sorted ? (state.descending ? "descending" : "ascending") : "none",
			},
			h(
				"button",
				{ type: "button", class: "sort", onclick: sort, title: `Sort by ${column.name}` },
				h("span", { class: "label" }, label(column)),
				mark ? h("span", { "aria-hidden": "true" }, mark) : null,
			),
			h("div", { class: "type" }, column.type),
			plot,
		);
	});
	const body = page.numbers.map((row, n) =>
		h(
			"tr",
			{},
			h("th", { scope: "row", class: "index" }, number(row)),
			columns.map((column, m) => {
				const cell = page.cells[m][n];
				return h("td", { class: column.align }, content(cell, column));
			}),
		),
	);
	if (!body.length)
		body.push(
			h(
				"tr",
				{},
				h(
					"td",
					{ colspan: columns.length + 1, class: "none" },
					page.waiting ? "Loading …" : state.filters.length ? "No row passes the filter." : "The table has no rows.",
				),
			),
		);
	return h(
		"table",
		{},
		h(
			"caption",
			{ class: "visually-hidden" },
			`Rows ${page.start} to ${page.start + page.numbers.length} of ${page.total}`,
		),
		h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "index" }, "#"), head)),
		h("tbody", {}, body),
	);
}

function label(column) {
	return name(column.name) || '""';
}

/** What stands in a cell; of a long text the beginning, until it is opened. */
function content(cell, column) {
	if (cell === null) return h("span", { class: "missing" }, "missing");
	if (column.align === "end" && cell === "nan") return h("span", { class: "missing" }, "nan");
	return cell.length > LONG || cell.includes("\n") ? h("details", { class: "long" }, h("summary", {}, cell)) : cell;
}

const seen = new IntersectionObserver((entries) => {
	for (const entry of entries) {
		if (!entry.isIntersecting) continue;
		seen.unobserve(entry.target);
		entry.target.whenSeen();
	}
});

/** Do it once the element is on the screen. */
function observe(element, work) {
	element.whenSeen = work;
	seen.observe(element);
}

function spreadOf(answer) {
	const missing = answer.missing ? `${Math.round((100 * answer.missing) / answer.sampled)}% missing` : "";
	const of = answer.sampled < answer.rows ? ` (of ${number(answer.sampled)} rows)` : "";
	if (answer.bins) {
		const range = `${short(answer.min)} … ${short(answer.max)}`;
		const mean = answer.mean ? `, mean ${short(answer.mean)}` : "";
		return [
			bars(answer.bins, `${range}${mean}${of}`),
			h("div", { class: "range" }, range),
			missing ? h("div", { class: "range" }, missing) : null,
		];
	}
	if (!answer.top) return h("div", { class: "range" }, missing || "–");
	return [
		ranks(answer.top, answer.sampled),
		h("div", { class: "range" }, `${number(answer.distinct)} different${of}`),
		missing ? h("div", { class: "range" }, missing) : null,
	];
}

function pager(page, state, act, columns) {
	const last = Math.max(0, Math.floor((page.total - 1) / ROWS) * ROWS);
	const to = h("input", {
		type: "number",
		class: "input short",
		min: 0,
		max: Math.max(0, page.total - 1),
		"aria-label": "Row to go to",
		placeholder: "row",
	});
	const step = (label, start, name) =>
		button(label, () => act({ start }), {
			"aria-label": name,
			disabled: start === state.start || start < 0 || start >= Math.max(1, page.total),
		});
	const filtered = page.total === page.rows ? "" : ` (of ${number(page.rows)})`;
	const range = page.numbers.length
		? `${number(page.start + 1)}–${number(page.start + page.numbers.length)} of ${number(page.total)}${filtered}`
		: `0 of ${number(page.rows)}`;
	return [
		h(
			"div",
			{ class: "pager", role: "group", "aria-label": "Rows" },
			step("«", 0, "First rows"),
			step("‹", Math.max(0, state.start - ROWS), "Rows before"),
			h("span", { class: "rows" }, range),
			step("›", state.start + ROWS, "Next rows"),
			step("»", last, "Last rows"),
		),
		h(
			"form",
			{ class: "inline", onsubmit: instead(() => to.value !== "" && act({ start: Number(to.value) })) },
			to,
			button("Go", null, { type: "submit" }),
		),
		columns > COLUMNS
			? h(
					"div",
					{ class: "pager", role: "group", "aria-label": "Columns" },
					button("‹", () => act({ first: Math.max(0, state.first - COLUMNS) }), {
						"aria-label": "Columns before",
						disabled: state.first === 0,
					}),
					h("span", {}, `columns ${state.first + 1}–${Math.min(columns, state.first + COLUMNS)} of ${number(columns)}`),
					button("›", () => act({ first: state.first + COLUMNS }), {
						"aria-label": "Next columns",
						disabled: state.first + COLUMNS >= columns,
					}),
				)
			: null,
	];
}

function filterBar(value, add) {
	if (!value.columns.length) return null;
	const column = h(
		"select",
		{ class: "input column", "aria-label": "Column" },
		value.columns.map((one) => h("option", { value: one.number }, label(one))),
	);
	const operator = h(
		"select",
		{ class: "input", "aria-label": "Comparison" },
		OPERATORS.map(([name, label]) => h("option", { value: name }, label)),
	);
	const text = h("input", { class: "input", "aria-label": "Value to compare with", placeholder: "value" });
	const fit = () => {
		const kind = value.columns.find((one) => one.number === Number(column.value));
		operator.value = kind?.align === "end" ? "greater_equal" : "contains";
	};
	column.addEventListener("change", fit);
	operator.addEventListener("change", () => {
		text.hidden = operator.value.endsWith("null");
	});
	fit();
	const submit = instead(() => {
		add({ column: Number(column.value), operator: operator.value, value: text.value });
		text.value = "";
	});
	return h(
		"form",
		{ class: "bar", onsubmit: submit, "aria-label": "Filter" },
		column,
		operator,
		text,
		button("Filter", null, { type: "submit" }),
	);
}

function chip(value, filter, remove) {
	const column = value.columns.find((one) => one.number === filter.column);
	const operator = OPERATORS.find(([one]) => one === filter.operator)[1];
	const text = `${label(column)} ${operator} ${filter.operator.endsWith("null") ? "" : filter.value}`;
	return badge(
		h(
			"span",
			{},
			text,
			h("button", { type: "button", class: "remove", "aria-label": `Remove the filter ${text}`, onclick: remove }, "×"),
		),
		"chip",
	);
}
