// The XComs and the state of a task instance, or the state of an asset: lists, and the value that was chosen.

import { ask, store } from "./api.js";
import { badge, button, bytes, h, link, name, notice, queried, query, say, show } from "./dom.js";
import { valuePanel } from "./value.js";

const PAGE = 100;

export async function taskPage(page, where, go) {
	const panel = h("section", { class: "panel", "aria-label": "Value" });
	const tab = window.parent !== window && !where.moved; // Airflow itself shows where we are
	const links = tab ? null : h("nav", { class: "crumbs", "aria-label": "Place" }, crumbs(where, go));
	const lists = where.asset_id
		? [listOf("State of this asset", store(where, ""))]
		: [
				listOf("XComs", store({ dag_id: where.dag_id }, "xcoms")),
				listOf("State", store({ dag_id: where.dag_id, is_state: true }, "")),
			];
	const all = () => lists.flatMap((list) => list.found);
	const filter = h("input", {
		type: "search",
		class: "input",
		placeholder: "Find a key",
		"aria-label": "Find a key",
		oninput: async () => {
			// What is not listed yet is looked through as well.
			for (const list of lists) while (filter.value && list.found.length < list.total) await load(list);
			for (const list of lists) narrow(list.items, filter.value);
		},
	});
	const aside = h(
		"aside",
		{ class: "list", "aria-label": where.asset_id ? "State of this asset" : "XComs and state of this task instance" },
		filter,
		lists.map(({ title, items, more }) => [title, items, more]),
	);
	show(page, links, h("div", { class: "split" }, aside, panel));

	let index = where.map_index ?? "-1";
	const load = (list) => (list.loading ??= next(list).finally(() => (list.loading = null))); // one page at a time, however fast one types
	const next = async (list) => {
		const answer = await ask(list.path, {
			run_id: where.run_id,
			task_id: where.task_id,
			map_index: index,
			start: list.found.length,
			count: PAGE,
		});
		list.found = [...list.found, ...answer.xcoms];
		list.total = answer.xcoms.length ? answer.total : list.found.length;
		list.items.append(...answer.xcoms.map((xcom) => h("li", {}, entry(xcom, choose, index))));
		const left = list.total - list.found.length;
		show(list.more, left ? button(`Show more (${left})`, () => load(list)) : null);
	};
	const loadLists = async () => {
		const answers = await Promise.allSettled(lists.map(load));
		if (answers[0].status === "rejected" && !all().length) throw answers[0].reason;
		answers.forEach(({ reason }, n) => {
			if (reason) show(lists[n].more, h("p", { class: "hint" }, reason.message));
			lists[n].title.hidden = !reason && (!lists[n].total || lists.length === 1 || (n === 0 && !lists[1].total));
		});
		filter.hidden = all().length < 8;
	};

	const choose = (xcom, { focus = false } = {}) => {
		for (const item of aside.querySelectorAll(".entry")) {
			const chosen = item.dataset.key === identity(xcom);
			item.setAttribute("aria-current", chosen ? "true" : "false");
			if (chosen) reveal(aside, item);
		}
		const here = { ...queried(location.search), key: xcom.key, is_state: xcom.is_state ? 1 : null };
		if (index === null) here.map_index = xcom.map_index;
		history.replaceState(history.state, "", `?${query(here)}`);
		say(`Value of ${xcom.key}`);
		valuePanel(panel, xcom, go);
		if (focus && matchMedia("(max-width: 760px)").matches) panel.scrollIntoView();
	};

	await loadLists();
	if (!all().length && index === "-1" && !where.asset_id) {
		index = null; // a mapped task has no instance of that number: show those of all
		await loadLists();
	}
	if (!all().length) {
		aside.hidden = true;
		show(
			panel,
			where.asset_id
				? notice("This asset keeps no state", "A task stores some with asset_state_store.")
				: notice(
						"This task instance has no XComs",
						"A task stores one when it returns a value that is not None, or calls xcom_push. It may not have run yet.",
					),
		);
		return;
	}
	if (all().length === 1) {
		aside.hidden = true; // the panel shows all that the list would
	}
	const named = all().filter((xcom) => xcom.key === where.key);
	const first =
		named.find((xcom) => xcom.is_state === Boolean(where.is_state)) ??
		named[0] ??
		all().find((xcom) => xcom.key === "return_value") ??
		all()[0];
	choose(first);
}

/** A list that is filled page by page. */
function listOf(title, path) {
	return {
		title: h("h2", { hidden: true }, title),
		path,
		found: [],
		total: 0,
		items: h("ul", { class: "xcoms", "aria-label": title }),
		more: h("div", { class: "more" }),
		loading: null,
	};
}

function identity(xcom) {
	return `${xcom.is_state ? "state " : ""}${xcom.region ?? ""}${label(xcom)}`;
}

function label(xcom) {
	return xcom.map_index >= 0 ? `[${xcom.map_index}] ${xcom.key}` : xcom.key;
}

function entry(xcom, choose, index) {
	const size =
		xcom.where === "object" ? `${bytes(xcom.size_bytes)} → ${bytes(xcom.stored_bytes)}` : bytes(xcom.size_bytes);
	return h(
		"button",
		{ type: "button", class: "entry", "data-key": identity(xcom), onclick: () => choose(xcom, { focus: true }) },
		h("span", { class: "key" }, name(index === null ? label(xcom) : xcom.key)),
		h(
			"span",
			{ class: "facts" },
			badge(xcom.type),
			xcom.reused?.run ? badge("reused") : null,
			" ",
			size,
			xcom.where === "object" ? "" : " · in the row",
		),
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
	if (where.asset_id)
		return [link("All Dags", {}, go), h("span", { "aria-current": "page" }, where.asset ?? `Asset ${where.asset_id}`)];
	const index = where.map_index !== null && where.map_index !== "-1" ? ` [${where.map_index}]` : "";
	return [
		link("All Dags", {}, go),
		link(where.dag_id, { dag_id: where.dag_id }, go),
		link(where.run_id, { dag_id: where.dag_id, run_id: where.run_id }, go),
		h("span", { "aria-current": "page" }, `${where.task_id}${index}`),
	];
}
