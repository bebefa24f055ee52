// What is stored: by task or Dag, over time, the largest values, and what it costs.

import { ask, dag } from "./api.js";
import { badge, bytes, h, link, moment, name, notice, number, show, styled } from "./dom.js";
import { ranking } from "./plots.js";

const NUMBERS = ["Stored", "Size", "Values", "Keys"];

export async function storedPage(page, where, go) {
	show(page, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
	const answer = where.dag_id ? await ask(dag(where.dag_id, "stored"), { run_id: where.run_id }) : await ask("stored");
	const title = where.run_id ? "XCom data of this run" : where.dag_id ? "XCom data of this Dag" : "XCom data";
	const parts = [h("nav", { class: "crumbs", "aria-label": "Place" }, crumbs(where, go)), h("h1", {}, title)];
	const assets = where.dag_id ? null : await assetsOf(go);
	if (!answer.count) {
		parts.push(
			notice(
				answer.truncated ? "None of the newest values is in object storage" : "Nothing is in object storage here",
				"Values of more than [xcargo] threshold_bytes go there when a task returns them; smaller ones stay in the metadata database and are shown on the page of their task instance.",
			),
			assets,
		);
		show(page, parts.filter(Boolean));
		return;
	}
	show(
		page,
		parts,
		cards(answer),
		h(
			"div",
			{ class: "columns" },
			section(
				answer.by === "task_id" ? "By task" : "By Dag",
				ranking(
					answer.groups.slice(0, 15).map((group) => ({
						name: group.name,
						value: group.stored_bytes,
						text: `${bytes(group.stored_bytes)} · ${number(group.count)}`,
						to:
							answer.by === "dag_id"
								? { dag_id: group.name }
								: where.run_id
									? { dag_id: where.dag_id, run_id: where.run_id, task_id: group.name }
									: null,
					})),
					{ open: go },
				),
			),
			section(
				"By type",
				ranking(
					answer.types.slice(0, 15).map((type) => ({
						name: type.name,
						value: type.stored_bytes,
						text: `${bytes(type.stored_bytes)} · ${number(type.count)}`,
					})),
				),
			),
		),
		where.run_id ? null : section("Stored by day", days(answer.days)),
		where.dag_id ? null : section("Orphans and retention", sweep(answer.sweep)),
		section("Largest values", largest(answer.largest, where, go)),
		where.run_id ? null : section("Newest runs", runs(answer.runs, where, go)),
		assets,
	);
}

function section(title, ...content) {
	return h("section", { class: "section" }, h("h2", {}, title), content);
}

/** The assets that keep state; nothing where there are none, or the user may not read them. */
async function assetsOf(go) {
	const { assets } = await ask("assets").catch((problem) => {
		if (problem.status === 403) return { assets: [] };
		throw problem;
	});
	const rows = assets.map((asset) =>
		h(
			"tr",
			{},
			h("td", {}, link(name(asset.name), { asset_id: asset.asset_id, asset: asset.name }, go)),
			h("td", {}, moment(asset.at)),
			h("td", { class: "end" }, number(asset.keys)),
		),
	);
	return rows.length
		? section("State of assets", grid("State of assets", ["Asset", "Last written", "Keys"], rows))
		: null;
}

function cards(answer) {
	const card = (name, text, more) =>
		h(
			"div",
			{ class: "card" },
			h("div", { class: "name" }, name),
			h("div", { class: "big" }, text),
			more ? h("div", { class: "range" }, more) : null,
		);
	const ratio = answer.stored_bytes ? answer.size_bytes / answer.stored_bytes : 1;
	const cost = answer.cost.dollars_a_month;
	return h(
		"div",
		{ class: "cards" },
		card(
			"values",
			`${number(answer.count)}${answer.truncated ? "+" : ""}`,
			answer.truncated ? "the newest ones" : "in object storage",
		),
		card("stored", bytes(answer.stored_bytes), `${bytes(answer.size_bytes)} before compression`),
		card("compression", `${ratio.toFixed(1)}×`, "smaller"),
		cost === null
			? null
			: card(
					"cost",
					cost < 0.01 ? "< $0.01 a month" : `$${cost.toFixed(2)} a month`,
					"at list prices of standard storage",
				),
	);
}

function days(all) {
	if (all.length < 2)
		return h(
			"p",
			{ class: "hint" },
			all.length
				? `${all[0].day}: ${bytes(all[0].stored_bytes)} in ${number(all[0].count)} values. A plot needs a second day.`
				: "",
		);
	const most = Math.max(1, ...all.map((day) => day.stored_bytes));
	const total = all.reduce((sum, day) => sum + day.stored_bytes, 0);
	const bar = (day) =>
		styled(h("span", { class: "fill" }), { height: `${Math.max(2, (100 * day.stored_bytes) / most)}%` });
	const answer = (day) => `${day.day}: ${bytes(day.stored_bytes)}, ${number(day.count)} values`;
	return h(
		"figure",
		{ class: "figure growth" },
		h(
			"ol",
			{ class: "days", "aria-label": "Stored by day" },
			all.map((day) => h("li", { title: answer(day) }, bar(day), h("span", { class: "visually-hidden" }, answer(day)))),
		),
		h(
			"div",
			{ class: "ends", "aria-hidden": "true" },
			h("span", {}, all[0].day),
			h("span", {}, all[all.length - 1].day),
		),
		h("figcaption", {}, `${bytes(total)} in ${number(all.length)} days, ${bytes(most)} on the fullest`),
	);
}

function grid(label, names, rows) {
	return h(
		"div",
		{ class: "grid", tabindex: "0", role: "region", "aria-label": label },
		h(
			"table",
			{},
			h(
				"thead",
				{},
				h(
					"tr",
					{},
					names
						.filter(Boolean)
						.map((one) => h("th", { scope: "col", class: NUMBERS.includes(one) ? "end" : null }, one)),
				),
			),
			h("tbody", {}, rows),
		),
	);
}

function largest(all, where, go) {
	const rows = all.map((xcom) => {
		const to = {
			dag_id: xcom.dag_id,
			run_id: xcom.run_id,
			task_id: xcom.task_id,
			map_index: xcom.map_index,
			key: xcom.key,
		};
		return h(
			"tr",
			{},
			h(
				"td",
				{},
				link(`${xcom.task_id}${xcom.map_index >= 0 ? ` [${xcom.map_index}]` : ""} › ${name(xcom.key)}`, to, go),
			),
			where.dag_id ? null : h("td", {}, xcom.dag_id),
			where.run_id ? null : h("td", {}, xcom.run_id),
			h("td", {}, badge(xcom.type)),
			h("td", { class: "end" }, bytes(xcom.stored_bytes)),
			h("td", { class: "end" }, bytes(xcom.size_bytes)),
		);
	});
	return grid(
		"Largest values",
		["Value", where.dag_id ? null : "Dag", where.run_id ? null : "Run", "Type", "Stored", "Size"],
		rows,
	);
}

function runs(all, where, go) {
	const rows = all
		.slice(0, 20)
		.map((run) =>
			h(
				"tr",
				{},
				h("td", {}, link(run.run_id, { dag_id: run.dag_id, run_id: run.run_id }, go)),
				where.dag_id ? null : h("td", {}, run.dag_id),
				h("td", {}, moment(run.at)),
				h("td", { class: "end" }, number(run.count)),
				h("td", { class: "end" }, bytes(run.stored_bytes)),
			),
		);
	return grid("Newest runs", ["Run", where.dag_id ? null : "Dag", "Last value", "Values", "Stored"], rows);
}

function crumbs(where, go) {
	const steps = [["All Dags", {}]];
	if (where.dag_id) steps.push([where.dag_id, { dag_id: where.dag_id }]);
	if (where.run_id) steps.push([where.run_id, { dag_id: where.dag_id, run_id: where.run_id }]);
	return steps.map(([label, to], n) =>
		n === steps.length - 1 ? h("span", { "aria-current": "page" }, label) : link(label, to, go),
	);
}

const VERDICTS = {
	live: "an XCom refers to it",
	retained: "kept by a retention rule",
	too_young: "nothing refers to it yet",
	unknown_age: "nothing refers to it, its age is not known",
	cannot_be_told: "its rows could not be read",
	not_ours: "not written by xcargo",
	orphan: "nothing refers to it any more",
	expired: "a retention rule lets it go",
};

function sweep(answer) {
	if (!answer) {
		return notice(
			"No sweep has reported yet",
			"A sweep finds objects that no XCom refers to any more, and values whose time is over. Let a Dag with XCargoGCOperator run from time to time: what it found last is shown here.",
		);
	}
	const rows = Object.entries(answer.objects)
		.filter(([, count]) => count.objects)
		.map(([verdict, count]) => ({
			name: VERDICTS[verdict] ?? verdict,
			value: count.size_bytes,
			text: `${bytes(count.size_bytes)} · ${number(count.objects)}`,
		}));
	return [
		h(
			"p",
			{ class: "hint" },
			`Last sweep: ${moment(answer.at)}, of ${answer.roots.join(", ")}. ${answer.applied ? "What was to go is gone." : "Nothing was deleted: it was a dry run."}${answer.missing ? ` Of ${number(answer.missing)} XComs the object is missing.` : ""}`,
		),
		ranking(rows),
		...memo(answer.entries ?? {}),
	];
}

/** A line on the entries of xcargo.memoize that a sweep found. */
function memo(entries) {
	const sum = (field) => Object.values(entries).reduce((total, count) => total + count[field], 0);
	if (!sum("objects")) return [];
	return [h("p", { class: "hint" }, `Entries of memoize: ${number(sum("objects"))} · ${bytes(sum("size_bytes"))}`)];
}
