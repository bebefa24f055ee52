// Which page: of a task instance, of an asset, of a run, of a Dag, or of all; and in which colours.

import { h, notice, queried, query, show } from "./dom.js";
import { storedPage } from "./stored.js";
import { taskPage } from "./task.js";

/** The colours of Airflow's page around this one, or the system's. */
function follow() {
	const root = document.documentElement;
	const system = matchMedia("(prefers-color-scheme: dark)");
	let outer = null;
	try {
		if (window.parent !== window) outer = window.parent.document.documentElement;
	} catch {
		outer = null; // a page of another origin is around us
	}
	const apply = () => {
		const named = outer?.classList.contains("dark") ? "dark" : outer?.classList.contains("light") ? "light" : null;
		root.dataset.theme = named ?? (system.matches ? "dark" : "light");
	};
	apply();
	system.addEventListener("change", apply);
	if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class"] });
}

/** What the address names. Airflow leaves a placeholder where there is nothing to fill in. */
function place() {
	const named = queried(location.search);
	const read = (name) => (/^\{[A-Z_]+\}$/.test(named[name]) ? null : named[name] || null);
	return {
		dag_id: read("dag_id"),
		run_id: read("run_id"),
		task_id: read("task_id"),
		map_index: read("map_index"),
		key: read("key"),
		is_state: read("is_state"),
		asset_id: read("asset_id"),
		asset: read("asset"),
		moved: history.state?.moved ?? false,
	};
}

/** Another page of ours, in the same frame. */
export function go(where) {
	history.pushState({ moved: true }, "", `?${query(where)}`);
	open();
}

function open() {
	const where = place();
	const app = document.getElementById("app");
	const page = h("div", {});
	show(app, page);
	const ofTask = where.dag_id && where.run_id && where.task_id;
	const opened = ofTask || where.asset_id ? taskPage(page, where, go) : storedPage(page, where, go);
	opened.catch((problem) => show(page, notice(problem.message, problem.hint, "error")));
}

follow();
addEventListener("popstate", open);
open();
