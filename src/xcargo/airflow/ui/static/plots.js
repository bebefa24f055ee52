// Small drawings: bars, a line, a heat map. Each says in words what it shows.

import { h, instead, number, short, styled, svg } from "./dom.js";

/** A histogram. */
export function bars(counts, label, { width = 110, height = 28 } = {}) {
	const most = Math.max(1, ...counts);
	const step = width / counts.length;
	return svg(
		"svg",
		{
			class: "plot",
			viewBox: `0 0 ${width} ${height}`,
			role: "img",
			"aria-label": `Distribution: ${label}`,
			preserveAspectRatio: "none",
		},
		svg("title", {}, label),
		counts.map((count, n) => {
			const tall = count ? Math.max(1, (count / most) * (height - 1)) : 0;
			return svg("rect", {
				x: (n * step).toFixed(2),
				y: (height - tall).toFixed(2),
				width: Math.max(0.5, step - 1).toFixed(2),
				height: tall.toFixed(2),
			});
		}),
	);
}

/** The most frequent values of a column. */
export function ranks(top, sampled) {
	return h(
		"ol",
		{ class: "ranks", "aria-label": "Most frequent values" },
		top
			.slice(0, 3)
			.map((one) =>
				h(
					"li",
					{ title: `${one.value}: ${number(one.count)}` },
					styled(h("span", { class: "fill" }), { width: `${(100 * one.count) / sampled}%` }),
					h("span", { class: "label" }, one.value),
				),
			),
	);
}

/** A line through points, with gaps where there is no number; beside it what its ends are. */
export function line(points, values, label, { width = 720, height = 220 } = {}) {
	const present = values.filter((value) => value !== null);
	const low = Math.min(...present);
	const high = Math.max(...present);
	const first = points[0] ?? 0;
	const span = (points[points.length - 1] ?? 1) - first || 1;
	const x = (point) => ((point - first) / span) * width;
	const y = (value) => (high > low ? height - 4 - ((value - low) / (high - low)) * (height - 8) : height / 2);
	let path = "";
	let pen = "M";
	values.forEach((value, n) => {
		if (value === null) pen = "M";
		else {
			path += `${pen}${x(points[n]).toFixed(1)} ${y(value).toFixed(1)}`;
			pen = "L";
		}
	});
	const text = `${label}: ${short(low)} to ${short(high)}`;
	return h(
		"figure",
		{ class: "figure lines" },
		h(
			"div",
			{ class: "ends", "aria-hidden": "true" },
			high > low ? [h("span", {}, short(high)), h("span", {}, short(low))] : h("span", { class: "middle" }, short(low)),
		),
		svg(
			"svg",
			{
				class: "plot line",
				viewBox: `0 0 ${width} ${height}`,
				preserveAspectRatio: "none",
				role: "img",
				"aria-label": text,
			},
			svg("title", {}, text),
			svg("path", { d: path }),
		),
		h(
			"div",
			{ class: "ends", "aria-hidden": "true" },
			h("span", {}, number(first)),
			h("span", {}, number(points[points.length - 1])),
		),
		h("figcaption", {}, label),
	);
}

const RAMP = [
	[68, 1, 84],
	[59, 82, 139],
	[33, 145, 140],
	[94, 201, 98],
	[253, 231, 37],
];

function colour(share) {
	const at = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1);
	const n = Math.floor(at);
	return RAMP[n].map((from, k) => Math.round(from + (RAMP[n + 1][k] - from) * (at - n)));
}

/** A heat map on a canvas, one pixel a cell, enlarged by the style sheet. */
export function heat(cells, label) {
	const flat = cells.flat().filter((value) => value !== null);
	const low = Math.min(...flat);
	const high = Math.max(...flat);
	const canvas = h("canvas", {
		class: "heat",
		width: cells[0].length,
		height: cells.length,
		role: "img",
		"aria-label": `${label}: ${short(low)} to ${short(high)}`,
	});
	const context = canvas.getContext("2d");
	const image = context.createImageData(cells[0].length, cells.length);
	cells.flat().forEach((value, n) => {
		const [r, g, b] = value === null ? [128, 128, 128] : colour((value - low) / (high - low || 1));
		image.data.set([r, g, b, value === null ? 60 : 255], 4 * n);
	});
	context.putImageData(image, 0, 0);
	const scale = h(
		"div",
		{ class: "scale", "aria-hidden": "true" },
		h("span", {}, short(low)),
		h("span", { class: "ramp" }),
		h("span", {}, short(high)),
	);
	return h("figure", { class: "figure" }, canvas, scale, h("figcaption", {}, label));
}

/** Rows of named bars. */
export function ranking(rows, { open = null } = {}) {
	const most = Math.max(1, ...rows.map((row) => row.value));
	return h(
		"ul",
		{ class: "ranking" },
		rows.map((row) =>
			h(
				"li",
				{},
				h(
					"span",
					{ class: "label" },
					open && row.to ? h("a", { href: "#", onclick: instead(() => open(row.to)) }, row.name) : row.name,
				),
				h(
					"span",
					{ class: "track", "aria-hidden": "true" },
					styled(h("span", { class: "fill" }), { width: `${Math.max(0.5, (100 * row.value) / most)}%` }),
				),
				h("span", { class: "amount" }, row.text),
			),
		),
	);
}
