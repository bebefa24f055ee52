// One value: what is known of it, and the views that suit its kind.

import { address, ask, store } from "./api.js";
import { arrayView } from "./array.js";
import { compareView } from "./compare.js";
import { folderView, hexView, imageView, textView } from "./content.js";
import { badge, button, bytes, h, moment, name, notice, number, say, show, showAnswer } from "./dom.js";
import { tableView } from "./table.js";
import { treeView } from "./tree.js";

/** The query that names a value to the API. */
function named(xcom, inside) {
	const { run_id, task_id, key, map_index, region } = xcom;
	return { run_id, task_id, key, map_index, region, attempt: xcom.every_attempt ? xcom.attempt : null, inside };
}

export function valuePanel(panel, xcom, go, inside = "") {
	show(panel, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
	const where = { path: (name) => store(xcom, name), query: named(xcom, inside) };
	const enter = (step) => valuePanel(panel, xcom, go, inside ? `${inside}/${step}` : step);
	const back = inside ? button("← Whole value", () => valuePanel(panel, xcom, go)) : null;
	const choose = (other) => valuePanel(panel, other, go);
	showAnswer(panel, ask(where.path("value"), where.query), (answer) => [
		h(
			"header",
			{ class: "head" },
			h("h1", { title: answer.xcom.key }, name(answer.xcom.key), inside ? ` › ${inside}` : ""),
			back,
			actions(answer, where),
		),
		facts(answer),
		answer.problem ? problemOf(answer.problem) : null,
		tabs(viewsOf(answer, where, enter, choose)),
	]);
}

function actions(answer, where) {
	if (!answer.value) return null;
	const link = (label, form) =>
		h("a", { class: "button", href: address(where.path("download"), { ...where.query, form }), download: "" }, label);
	const kind = answer.value.kind;
	if (kind === "opaque" && answer.envelope?.codec === "pickle") return null;
	return h(
		"div",
		{ class: "actions" },
		formsOf(answer.value).map(([form, label]) => link(label, form)),
	);
}

/** The files that a value can be downloaded as, the one that most people open first. */
function formsOf(value) {
	if (value.kind === "tree" && value.text)
		return [
			["txt", "Download"],
			["json", "JSON"],
			["raw", "Raw"],
		];
	if (value.kind === "tree")
		return [
			["json", "Download JSON"],
			["raw", "Raw"],
		];
	if (value.kind === "table")
		return [
			["csv", "Download CSV"],
			["parquet", "Parquet"],
			["raw", "Arrow"],
		];
	if (value.kind === "array" && value.npy)
		return [
			["npy", "Download"],
			["raw", "Raw"],
		];
	return [["raw", "Download"]];
}

function facts(answer) {
	const { xcom, value } = answer;
	const ratio = xcom.stored_bytes ? xcom.size_bytes / xcom.stored_bytes : null;
	const shape = value?.columns?.length ? [value.rows, value.columns.length] : (value?.shape ?? xcom.shape);
	const rows = [
		["Type", badge(value?.type ?? xcom.type)],
		["Size", bytes(xcom.size_bytes)],
		xcom.where === "object"
			? [
					"Stored",
					`${bytes(xcom.stored_bytes)}${ratio && ratio > 1.05 ? `, ${ratio.toFixed(1)} times smaller (${xcom.compression})` : ""}`,
				]
			: ["Stored", "in the metadata database"],
		shape ? ["Shape", shape.map(number).join(" × ") || "one item"] : null,
		value?.name ? ["Name", name(value.name)] : null,
		xcom.is_state ? ["Kept as", xcom.asset_id ? "state of an asset" : "state of the task"] : null,
		xcom.map_index >= 0 ? ["Map index", number(xcom.map_index)] : null,
		xcom.attempt ? ["Attempt", number(xcom.attempt)] : null,
		["Written", moment(xcom.created_at ?? xcom.stored_at)],
		xcom.reused?.run ? ["Reused", origin(xcom.reused)] : null,
		xcom.checksum ? ["Checksum", checksum(answer)] : null,
		xcom.uri ? ["Place", h("code", { class: "uri" }, xcom.uri)] : null,
	];
	return h(
		"dl",
		{ class: "factsheet" },
		rows
			.filter(Boolean)
			.map(([label, text]) =>
				h(
					"div",
					{ class: ["Place", "Reused"].includes(label) ? "whole" : null },
					h("dt", {}, label),
					h("dd", {}, text),
				),
			),
	);
}

/** Which task instance computed a value that another one reused. */
function origin(reused) {
	const mapped = reused.map_index ? ` [${reused.map_index}]` : "";
	return name(`from ${reused.dag}, run ${reused.run}, task ${reused.task}${mapped}, computed ${moment(reused.at)}`);
}

function checksum(answer) {
	const algorithm = answer.xcom.checksum.split(/[-:]/)[0]; // of a value in pieces it is that of a tree of them
	const title = answer.xcom.checksum;
	if (answer.problem?.kind === "integrity") return h("span", { title, class: "bad" }, `${algorithm}, does not match`);
	if (answer.problem || !answer.value) return h("span", { title }, `${algorithm}, not checked`);
	if (answer.value.kind === "opaque") return h("span", { title }, `${algorithm}, not read`);
	return h("span", { title, class: "good" }, `${algorithm}, verified`);
}

const ADVICE = {
	access_denied: "The API server needs its own credentials for the store: the connection that [xcargo] path names.",
	configuration: "The API server needs the same [xcargo] settings and connections as the workers.",
	missing_dependency: "Install it where the API server runs.",
};

function problemOf(problem) {
	const hint = [problem.hint, ADVICE[problem.kind]].filter(Boolean).join(" ");
	return notice(`The value cannot be shown: ${problem.what}`, hint || "What its row says is below.", "error");
}

function viewsOf(answer, where, enter, choose) {
	const value = answer.value;
	const views = [];
	if (value) {
		if (value.kind === "tree") {
			if (value.text) views.push(["Text", () => textView(where, { at: value.root.at, size: value.root.length })]);
			else views.push(["Tree", () => treeView(where, value.root, enter)]);
		}
		if (value.kind === "table") views.push(["Table", () => tableView(where, value)]);
		if (value.kind === "array") views.push(["Array", () => arrayView(where, value)]);
		if (value.kind === "folder") views.push(["Files", () => folderView(where, value)]);
		if (value.kind === "bytes") {
			if (value.image) views.push(["Image", () => imageView(where, answer.xcom)]);
			if (value.text) views.push(["Text", () => textView(where, { size: value.size_bytes, name: value.name })]);
			views.push(["Hex", () => hexView(where, value.size_bytes)]);
		}
		if (value.kind === "opaque") views.push(["Value", () => opaque(answer)]);
		if (value.kind !== "opaque" && !where.query.inside && !answer.xcom.asset_id)
			views.push(["Compare", () => compareView(where, answer.xcom, choose)]);
	}
	views.push([answer.envelope ? "Envelope" : "Row", () => envelope(answer)]);
	return views;
}

function opaque(answer) {
	const codec = answer.envelope?.codec ?? "?";
	const pickle = codec === "pickle";
	return notice(
		pickle ? "This value is a pickle, and is not opened here" : `This value was written by the codec ${codec}`,
		pickle
			? "Reading a pickle runs the code of whoever wrote it. Pull it in a task."
			: "The explorer opens values of xcargo's own codecs only. Pull it in a task, or download its bytes.",
	);
}

function envelope(answer) {
	const shown = answer.envelope ?? answer.xcom;
	return h("pre", { class: "json", tabindex: "0" }, JSON.stringify(shown, null, 2));
}

let tabSets = 0;

function tabs(views) {
	tabSets += 1;
	const id = `tabs${tabSets}`;
	const body = h("div", { class: "tabbody", role: "tabpanel", id: `${id}-panel`, tabindex: "0" });
	const select = (n, focus) => {
		buttons.forEach((tab, m) => {
			tab.setAttribute("aria-selected", m === n ? "true" : "false");
			tab.tabIndex = m === n ? 0 : -1;
		});
		body.setAttribute("aria-labelledby", `${id}-${n}`);
		if (focus) buttons[n].focus();
		say(views[n][0]);
		show(body, views[n][1]());
	};
	const buttons = views.map(([label], n) =>
		h(
			"button",
			{
				type: "button",
				role: "tab",
				id: `${id}-${n}`,
				"aria-controls": `${id}-panel`,
				onclick: () => select(n, false),
				onkeydown: (event) => {
					const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
					if (step) select((n + step + views.length) % views.length, true);
				},
			},
			label,
		),
	);
	const bar = h("div", { role: "tablist", class: "tabs", "aria-label": "Views of the value" }, buttons);
	select(0, false);
	return [bar, body];
}
