// Bytes, texts, pictures and the names in a folder.

import { address, ask } from "./api.js";
import { button, bytes, h, name as nameOf, notice, number, show, showAnswer } from "./dom.js";
import { markdown } from "./markdown.js";

const HEX = 1024;
const TEXT = 32768;

export function hexView(where, size) {
	const view = h("div", { class: "hex-view" });
	const open = (start) => {
		const asked = ask(where.path("bytes"), { ...where.query, start, count: HEX });
		showAnswer(view, asked, (part) => page(part, start));
	};
	const page = (part, start) => {
		const to = h("input", { class: "input short", "aria-label": "Offset to go to", placeholder: "offset" });
		const go = (event) => {
			event.preventDefault();
			const offset = Number(to.value);
			if (to.value !== "" && Number.isFinite(offset))
				open(Math.max(0, Math.min(size - 1, Math.floor(offset / 16) * 16)));
		};
		return [
			h("pre", { class: "hex", tabindex: "0", "aria-label": "Bytes" }, dump(part)),
			h(
				"div",
				{ class: "bar foot" },
				button("«", () => open(0), { "aria-label": "First bytes", disabled: start === 0 }),
				button("‹", () => open(Math.max(0, start - HEX)), { "aria-label": "Bytes before", disabled: start === 0 }),
				h("span", {}, `${number(start)}–${number(start + part.hex.length / 2)} of ${number(size)} bytes`),
				button("›", () => open(start + HEX), { "aria-label": "Next bytes", disabled: start + HEX >= size }),
				button("»", () => open(Math.max(0, Math.floor((size - 1) / HEX) * HEX)), {
					"aria-label": "Last bytes",
					disabled: start + HEX >= size,
				}),
				h("form", { class: "inline", onsubmit: go }, to, button("Go", null, { type: "submit" })),
			),
		];
	};
	open(0);
	return view;
}

function dump(part) {
	const lines = [];
	for (let n = 0; n < part.hex.length; n += 32) {
		const pairs = part.hex.slice(n, n + 32).match(/../g);
		const text = pairs
			.map((pair) => Number.parseInt(pair, 16))
			.map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : "·"));
		lines.push(
			`${(part.start + n / 2).toString(16).padStart(8, "0")}  ${pairs.join(" ").padEnd(47)}  ${text.join("")}`,
		);
	}
	return lines.join("\n") || "There are no bytes.";
}

export function textView(where, { at = null, size = 0, name = "" }) {
	const view = h("div", { class: "text-view" });
	const body = h("div", {});
	const more = h("div", { class: "bar foot" });
	let text = "";
	let end = 0;
	const marked = /\.(md|markdown)$/i.test(name ?? "");
	let rendered = marked;
	const draw = () =>
		show(
			body,
			rendered ? h("div", { class: "markdown" }, markdown(text)) : h("pre", { class: "text", tabindex: "0" }, text),
		);
	const load = async () => {
		const part = await ask(where.path("bytes"), { ...where.query, at, start: end, count: TEXT, text: true });
		text += part.text;
		end = part.end;
		if (part.size_bytes) draw();
		else show(body, h("p", { class: "hint" }, "The text is empty."));
		show(more, end < part.size_bytes ? button(`More (${bytes(part.size_bytes - end)} left)`, load) : null);
	};
	const toggle = button(
		"Markdown",
		() => {
			rendered = !rendered;
			toggle.setAttribute("aria-pressed", rendered ? "true" : "false");
			draw();
		},
		{ "aria-pressed": rendered ? "true" : "false" },
	);
	load().catch((problem) => show(body, notice(problem.message, problem.hint, "error")));
	return show(view, marked || (!name && size) ? h("div", { class: "bar" }, toggle) : null, body, more);
}

export function imageView(where, xcom) {
	const box = h("div", { class: "image-view" });
	const image = h("img", { src: address(where.path("image"), where.query), alt: `Picture stored as ${xcom.key}` });
	image.addEventListener("error", () =>
		show(box, notice("The picture cannot be shown", "It may be too large or damaged; download it.", "error")),
	);
	return show(box, image);
}

export function folderView(where, value) {
	const view = h("div", {}, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
	ask(where.path("folder"), where.query)
		.then((answer) => {
			const rows = answer.entries.map((entry) =>
				h(
					"tr",
					{},
					h("td", {}, nameOf(entry.name)),
					h("td", {}, entry.kind),
					h("td", { class: "end" }, entry.kind === "file" ? bytes(entry.size_bytes) : ""),
				),
			);
			show(
				view,
				h(
					"p",
					{ class: "hint" },
					`${nameOf(value.name)}: ${number(value.files ?? answer.entries.length)} files${answer.more ? `, the first ${answer.entries.length} names` : ""}`,
				),
				h(
					"div",
					{ class: "grid", tabindex: "0", role: "region", "aria-label": "Files" },
					h(
						"table",
						{},
						h(
							"thead",
							{},
							h(
								"tr",
								{},
								["Name", "Kind", "Size"].map((name) => h("th", { scope: "col" }, name)),
							),
						),
						h("tbody", {}, rows),
					),
				),
			);
		})
		.catch((problem) => show(view, notice(problem.message, problem.hint, "error")));
	return view;
}
