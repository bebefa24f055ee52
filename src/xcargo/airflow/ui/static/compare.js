// This value beside the same XCom of another run, map index or attempt.

import { ask } from "./api.js";
import { button, h, moment, notice, number, short, show, showAnswer } from "./dom.js";
import { bars } from "./plots.js";

export function compareView(where, xcom, choose) {
	const view = h("div", { class: "compare-view" }, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
	const result = h("div", {});
	ask(where.path("others"), where.query)
		.then(({ xcoms }) => {
			if (!xcoms.length) {
				show(
					view,
					notice(
						"There is nothing to compare with yet",
						xcom.every_attempt
							? "No other run, map index or attempt of this task has stored this key."
							: "No other run or map index of this task has stored this key. This Airflow keeps no earlier attempts; 3.4 and later do.",
					),
				);
				return;
			}
			const choice = h(
				"select",
				{ class: "input", id: "other" },
				xcoms.map((other, n) => h("option", { value: n }, `${side(other)} · ${moment(other.stored_at)}`)),
			);
			const run = () => {
				const other = xcoms[Number(choice.value)];
				show(result, h("p", { class: "hint", "aria-busy": "true" }, "Comparing …"));
				const asked = ask(where.path("compare"), {
					...where.query,
					other_run_id: other.run_id,
					other_map_index: other.map_index,
					other_attempt: other.every_attempt ? other.attempt : null,
					other_region: other.region,
				});
				showAnswer(result, asked, (answer) => resultOf(answer, xcom, other));
			};
			choice.addEventListener("change", run);
			show(
				view,
				h(
					"div",
					{ class: "bar" },
					h("label", { for: "other" }, "Compare with"),
					choice,
					button("Open it", () => choose(xcoms[Number(choice.value)])),
				),
				result,
			);
			run();
		})
		.catch((problem) => show(view, notice(problem.message, problem.hint, "error")));
	return view;
}

function resultOf(answer, left, right) {
	const verdict =
		answer.same === true
			? ["The values are the same", "good"]
			: answer.same === false
				? ["The values differ", "changed"]
				: ["No difference was found", ""];
	const sides = [side(left), side(right)];
	return [
		h(
			"div",
			{ class: `notice verdict ${verdict[1]}` },
			h("strong", {}, verdict[0]),
			h(
				"p",
				{},
				`Compared: ${answer.compared}.`,
				answer.rows_differing ? ` ${number(answer.rows_differing)} rows differ.` : "",
			),
		),
		answer.schema.length
			? pairs(
					"Schema",
					"What",
					answer.schema.map((one) => [one.what, one.left, one.right]),
					sides,
				)
			: null,
		answer.changes.length
			? pairs(
					`Values${answer.rows_differing > answer.changes.length || answer.changes.length >= 200 ? ", the first of them" : ""}`,
					"Where",
					answer.changes.map((one) => [one.where, one.left, one.right]),
					sides,
				)
			: null,
		answer.statistics?.length && answer.same !== true ? statistics(answer.statistics, sides) : null,
	];
}

function side(xcom) {
	const attempt = xcom.every_attempt && xcom.attempt ? `, attempt ${xcom.attempt}` : "";
	return `${xcom.run_id}${xcom.map_index >= 0 ? ` [${xcom.map_index}]` : ""}${attempt}`;
}

function pairs(title, what, rows, sides) {
	const cell = (text, kind) =>
		h("td", { class: kind }, text === null ? h("span", { class: "missing" }, "not there") : text);
	return h(
		"section",
		{},
		h("h2", {}, title),
		h(
			"div",
			{ class: "grid", tabindex: "0", role: "region", "aria-label": title },
			h(
				"table",
				{ class: "diff" },
				h(
					"thead",
					{},
					h(
						"tr",
						{},
						[what, ...sides].map((name) => h("th", { scope: "col" }, name)),
					),
				),
				h(
					"tbody",
					{},
					rows.map(([name, one, other]) =>
						h("tr", {}, h("th", { scope: "row" }, name), cell(one, "was"), cell(other, "is")),
					),
				),
			),
		),
	);
}

function statistics(columns, sides) {
	const cell = (one) =>
		h(
			"td",
			{},
			one.bins ? bars(one.bins, `${short(one.min)} to ${short(one.max)}`) : null,
			h(
				"div",
				{ class: "range" },
				one.bins ? `${short(one.min)} … ${short(one.max)}` : `${number(one.distinct ?? 0)} different`,
				one.missing ? `, ${number(one.missing)} missing` : "",
			),
		);
	return h(
		"section",
		{},
		h("h2", {}, "Distributions"),
		h(
			"div",
			{ class: "grid", tabindex: "0", role: "region", "aria-label": "Distributions" },
			h(
				"table",
				{},
				h(
					"thead",
					{},
					h(
						"tr",
						{},
						["Column", ...sides].map((name) => h("th", { scope: "col" }, name)),
					),
				),
				h(
					"tbody",
					{},
					columns.map((one) => h("tr", {}, h("th", { scope: "row" }, one.column), cell(one.left), cell(one.right))),
				),
			),
		),
	);
}
