// A nested value as a tree. Children are fetched when a node is opened, a page at a time.

import { ask } from "./api.js";
import { badge, button, bytes, h, instead, notice, number, say, show, showAnswer } from "./dom.js";

const PAGE = 100;

export function treeView(where, root, enter) {
	const view = h("div", { class: "tree-view" });
	const crumbs = h("nav", { class: "crumbs", "aria-label": "Part of the value" });
	const tree = h("ul", { role: "tree", class: "tree", "aria-label": "Value" });
	const results = h("div", { class: "results" });
	const show_at = (way) => {
		const node = way.length ? way[way.length - 1].node : root;
		show(
			crumbs,
			way.length
				? [{ label: "value", way: [] }, ...way.map((step, n) => ({ label: step.label, way: way.slice(0, n + 1) }))].map(
						(crumb) => h("a", { href: "#", onclick: instead(() => show_at(crumb.way)) }, crumb.label),
					)
				: null,
		);
		const top = item(where, { ...node, open: true }, null, enter);
		top.querySelector(".row").tabIndex = 0;
		show(tree, top);
	};
	tree.addEventListener("keydown", move);
	show(view, root.count ? searchBar(where, results, show_at) : null, results, crumbs, tree);
	show_at([]);
	return view;
}

/** One node, with a place for its children. */
function item(where, node, label, enter) {
	const opens = node.count > 0;
	const group = h("ul", { role: "group" });
	const row = h(
		"div",
		{ class: "row" },
		h("span", { class: "twisty", "aria-hidden": "true" }, opens ? "▸" : ""),
		label,
		content(node, where, enter),
	);
	const element = h(
		"li",
		{ role: "treeitem", "aria-expanded": opens ? "false" : null, tabindex: "-1" },
		row,
		opens ? group : null,
	);
	row.tabIndex = -1;
	let loaded = false;
	const toggle = async (open) => {
		if (!opens) return;
		element.setAttribute("aria-expanded", open ? "true" : "false");
		row.firstChild.textContent = open ? "▾" : "▸";
		group.hidden = !open;
		if (open && !loaded) {
			loaded = true;
			await fetchInto(where, group, node, { cursor: "" }, enter).catch((problem) => {
				loaded = false;
				show(group, h("li", { role: "none" }, notice(problem.message, problem.hint, "error")));
			});
		}
	};
	element.toggle = toggle;
	row.addEventListener("click", (event) => {
		if (event.target.closest("button, a, input")) return;
		toggle(element.getAttribute("aria-expanded") !== "true");
		focus(element);
	});
	if (node.open) toggle(true);
	return element;
}

async function fetchInto(where, group, node, from, enter) {
	const waiting = h("li", { role: "none", class: "hint", "aria-busy": "true" }, "Loading …");
	group.append(waiting);
	let page;
	try {
		page = await ask(where.path("tree"), { ...where.query, at: node.at, count: PAGE, ...from });
	} finally {
		waiting.remove();
	}
	for (const child of page.items) group.append(item(where, child, labelOf(child), enter));
	if (page.next) {
		const next = page.items.length ? page.items[page.items.length - 1].index + 1 : 0;
		const left = page.total - next;
		const more = h("li", { role: "none", class: "row more" });
		const go = (target) => {
			more.remove();
			return fetchInto(where, group, node, target, enter).catch((problem) => {
				group.append(h("li", { role: "none" }, notice(problem.message, problem.hint, "error")));
			});
		};
		const jump = h("input", {
			type: "number",
			class: "input short",
			min: 0,
			max: page.total - 1,
			"aria-label": "Item number",
			placeholder: "item",
		});
		show(
			more,
			button(left > PAGE ? `Next ${PAGE} of ${number(left)} more` : `Show ${left} more`, () =>
				go({ cursor: page.next }),
			),
			page.total > 2 * PAGE
				? h(
						"form",
						{ class: "inline", onsubmit: instead(() => jump.value !== "" && go({ start: jump.value })) },
						"or go to ",
						jump,
						button("Go", null, { type: "submit" }),
					)
				: null,
		);
		group.append(more);
	}
}

function labelOf(child) {
	if (!child.key) return h("span", { class: "index" }, `${number(child.index)}:`);
	return h(
		"span",
		{ class: "name", title: child.key.type },
		child.key.type === "str" ? child.key.value || '""' : child.key.value,
		":",
	);
}

function content(node, where, enter) {
	if (node.count !== undefined) {
		const word =
			node.type === "dict" || node.object ? (node.count === 1 ? "key" : "keys") : node.count === 1 ? "item" : "items";
		return [badge(node.type), h("span", { class: "count" }, `${number(node.count)} ${word}`)];
	}
	if (node.type === "str") return text(node, where);
	if (node.part !== undefined)
		return [
			badge("stored beside the value"),
			button("Open", () => enter(`part:${node.part}`), { class: "button small" }),
		];
	if (node.codec) return [badge(node.codec), button("Open", () => enter(`leaf:${node.at}`), { class: "button small" })];
	if (node.value !== undefined)
		return [
			h("span", { class: `value ${node.type}` }, PYTHON.get(node.value) ?? String(node.value)),
			isPlain(node.type) ? null : badge(node.type),
		];
	return [badge(node.type), h("span", { class: "count" }, bytes(node.length))];
}

/** As Python writes them, and tables do. */
const PYTHON = new Map([
	[null, "None"],
	[true, "True"],
	[false, "False"],
]);

function isPlain(type) {
	return ["int", "float", "bool", "None"].includes(type);
}

/** A text: its beginning, and more of it on demand. */
function text(node, where) {
	const shown = h("span", { class: "value str" }, JSON.stringify(node.value).slice(1, -1));
	if (node.length <= 400) return shown;
	let end = 0;
	const more = button(
		`… ${bytes(node.length)}`,
		async () => {
			const part = await ask(where.path("bytes"), { ...where.query, at: node.at, start: end, count: 16384 });
			shown.textContent = (end ? shown.textContent : "") + part.text;
			shown.classList.add("long");
			end = part.end;
			if (end >= part.size_bytes) more.remove();
			else more.textContent = `more (${bytes(part.size_bytes - end)} left)`;
		},
		{ class: "button small" },
	);
	return [shown, more];
}

function searchBar(where, results, show_at) {
	const input = h("input", {
		type: "search",
		class: "input",
		placeholder: "Search keys and texts",
		"aria-label": "Search keys and texts",
	});
	const run = (start) => {
		results.asked = null;
		if (!input.value) return show(results);
		if (!start) show(results, h("p", { class: "hint", "aria-busy": "true" }, "Searching …"));
		const asked = ask(where.path("search"), { ...where.query, start }, { typed: { text: input.value } });
		return showAnswer(results, asked, listOf);
	};
	const listOf = (found) => {
		const list = found.hits.map((hit) => h("li", {}, hitOf(hit, show_at)));
		const rest =
			found.next === null
				? null
				: button(`Search on (${Math.round((100 * found.next) / found.size_bytes)}% searched)`, () => run(found.next));
		say(`${found.hits.length} places found`);
		return [
			h(
				"p",
				{ class: "hint" },
				`${found.hits.length || "No"} ${found.hits.length === 1 ? "place" : "places"}${found.next === null ? "" : " so far"}`,
			),
			h("ul", { class: "hits" }, list),
			rest,
		];
	};
	const search = (event) => {
		event.preventDefault();
		run(0);
	};
	return h(
		"form",
		{ class: "bar", role: "search", onsubmit: search },
		input,
		button("Search", null, { type: "submit" }),
	);
}

function hitOf(hit, show_at) {
	const steps = hit.way.map((step) => ({ label: step.key ?? `[${step.index}]`, node: step.node ?? hit.node }));
	const open = (event) => {
		event.preventDefault();
		show_at(hit.node.count === undefined ? steps.slice(0, -1) : steps);
	};
	const value = hit.node.value === undefined ? "" : String(hit.node.value).slice(0, 80);
	return h(
		"a",
		{ href: "#", onclick: open },
		h("span", { class: "way" }, steps.map((step) => step.label).join(" › ")),
		value ? h("span", { class: "value str" }, value) : null,
	);
}

function rows(tree) {
	return [...tree.querySelectorAll(".row:not(.more)")].filter((row) => row.offsetParent !== null);
}

function focus(element) {
	const tree = element.closest("[role=tree]");
	for (const row of tree.querySelectorAll(".row[tabindex='0']")) row.tabIndex = -1;
	const row = element.querySelector(".row");
	row.tabIndex = 0;
	row.focus();
}

/** The keys of a tree, as the ARIA practices have them. */
function move(event) {
	const row = event.target.closest(".row");
	if (!row || event.target !== row) return;
	const element = row.parentElement;
	const all = rows(event.currentTarget);
	const n = all.indexOf(row);
	const expanded = element.getAttribute("aria-expanded");
	const to = { ArrowDown: all[n + 1], ArrowUp: all[n - 1], Home: all[0], End: all[all.length - 1] }[event.key];
	if (to) focus(to.parentElement);
	else if (event.key === "ArrowRight" && expanded === "false") element.toggle(true);
	else if (event.key === "ArrowRight" && expanded === "true" && all[n + 1]) focus(all[n + 1].parentElement);
	else if (event.key === "ArrowLeft" && expanded === "true") element.toggle(false);
	else if (event.key === "ArrowLeft" && element.parentElement.closest("[role=treeitem]"))
		focus(element.parentElement.closest("[role=treeitem]"));
	else if (event.key === "Enter" || event.key === " ") element.toggle(expanded !== "true");
	else return;
	event.preventDefault();
}
