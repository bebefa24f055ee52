// The XComs of a task instance: a list, and the one that was chosen.

import { ask, dag } from "./api.js";
import { badge, button, bytes, h, link, name, notice, queried, query, say, show } from "./dom.js";
import { valuePanel } from "./value.js";

const PAGE = 100;

export async function taskPage(page, where, go) {
	const list = h("ul", { class: "xcoms" });
	const panel = h("section", { class: "panel", "aria-label": "Value" });
	const more = h("div", { class: "more" });
	const tab = window.parent !== window && !where.moved; // Airflow itself shows where we are
	const links = tab ? null : h("nav", { class: "crumbs", "aria-label": "Place" }, crumbs(where, go));
	const filter = h("input", {
		type: "search",
		class: "input",
		placeholder: "Find a key",
		"aria-label": "Find a key",
		oninput: async () => {
			while (filter.value && found.length < total) await load(); // what is not listed yet is looked through as well
			narrow(list, filter.value);
		},
	});
	const aside = h("aside", { class: "list", "aria-label": "XComs of this task instance" }, filter, list, more);
	show(page, links, h("div", { class: "split" }, aside, panel));

	let found = [];
	let total = 0;
	let index = where.map_index ?? "-1";
	let loading = null;
	const load = () => (loading ??= next().finally(() => (loading = null))); // one page at a time, however fast one types
	const next = async () => {
		const answer = await ask(dag(where.dag_id, "xcoms"), {
			run_id: where.run_id,
			task_id: where.task_id,
			map_index: index,
			start: found.length,
			count: PAGE,
		});
		found = [...found, ...answer.xcoms];
		total = answer.xcoms.length ? answer.total : found.length;
		list.append(...answer.xcoms.map((xcom) => h("li", {}, entry(xcom, choose, index))));
		filter.hidden = found.length < 8;
		show(more, found.length < total ? button(`Show more (${total - found.length})`, load) : null);
	};

	const choose = (xcom, { focus = false } = {}) => {
		for (const item of list.querySelectorAll("button")) {
			const chosen = item.dataset.key === label(xcom);
			item.setAttribute("aria-current", chosen ? "true" : "false");
			if (chosen) reveal(aside, item);
		}
		const here = { ...queried(location.search), key: xcom.key };
		if (index === null) here.map_index = xcom.map_index;
		history.replaceState(history.state, "", `?${query(here)}`);
		say(`Value of ${xcom.key}`);
		valuePanel(panel, xcom, go);
		if (focus && matchMedia("(max-width: 760px)").matches) panel.scrollIntoView();
	};

	await load();
	if (!total && index === "-1") {
		index = null; // a mapped task has no instance of that number: show those of all
		await load();
	}
	if (!total) {
		aside.hidden = true;
		show(
			panel,
			notice(
				"This task instance has no XComs",
				"A task stores one when it returns a value that is not None, or calls xcom_push. It may not have run yet.",
			),
		);
		return;
	}
	if (found.length === 1) {
		aside.hidden = true; // the panel shows all that the list would
	}
	const first = found.find((xcom) => xcom.key === where.key) ?? found.find((x) => x.key === "return_value") ?? found[0];
	choose(first);
}

function label(xcom) {
	return xcom.map_index >= 0 ? `[${xcom.map_index}] ${xcom.key}` : xcom.key;
}

function entry(xcom, choose, index) {
	const size =
		xcom.where === "object" ? `${bytes(xcom.size_bytes)} → ${bytes(xcom.stored_bytes)}` : bytes(xcom.size_bytes);
	return h(
		"button",
		{ type: "button", class: "entry", "data-key": label(xcom), onclick: () => choose(xcom, { focus: true }) },
		h("span", { class: "key" }, name(index === null ? label(xcom) : xcom.key)),
		h("span", { class: "facts" }, badge(xcom.type), " ", size, xcom.where === "object" ? "" : " · in the row"),
		xcom.preview ? h("span", { class: "preview" }, xcom.preview) : null,
	);
}

/** Scroll the list, and nothing around it, until the item is seen. */
function reveal(list, item) {
	const [frame, place] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
	if (place.bottom > frame.bottom || place.top < frame.top) list.scrollTop += place.top - frame.top - frame.height / 3;
}

function narrow(list, text) {
	const wanted = text.toLowerCase();
	for (const item of list.children) {
		item.hidden = !item.firstChild.dataset.key.toLowerCase().includes(wanted);
	}
}

function crumbs(where, go) {
	const index = where.map_index !== null && where.map_index !== "-1" ? ` [${where.map_index}]` : "";
	return [
		link("All Dags", {}, go),
		link(where.dag_id, { dag_id: where.dag_id }, go),
		link(where.run_id, { dag_id: where.dag_id, run_id: where.run_id }, go),
		h("span", { "aria-current": "page" }, `${where.task_id}${index}`),
	];
}
