// Markdown as elements: headings, lists, code, quotes, tables, emphasis. Markup inside it stays text; links are shown,
// not followed, and pictures are named, not loaded.

import { h } from "./dom.js";

export function markdown(text) {
	const lines = text.split(/\r?\n/);
	const blocks = [];
	let n = 0;
	const taken = (test) => {
		const found = [];
		while (n < lines.length && test(lines[n])) found.push(lines[n++]);
		return found;
	};
	while (n < lines.length) {
		const line = lines[n];
		const heading = /^(#{1,6})\s+(.*)$/.exec(line);
		if (/^\s*$/.test(line)) n += 1;
		else if (/^```/.test(line)) {
			n += 1;
			const code = taken((one) => !/^```/.test(one));
			n += 1;
			blocks.push(h("pre", { class: "text" }, code.join("\n")));
		} else if (heading) {
			n += 1;
			blocks.push(h(`h${Math.min(6, heading[1].length + 1)}`, {}, inline(heading[2])));
		} else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
			n += 1;
			blocks.push(h("hr", {}));
		} else if (/^\s*[-*+]\s+/.test(line)) {
			blocks.push(
				h(
					"ul",
					{},
					taken((one) => /^\s*[-*+]\s+/.test(one)).map((one) => h("li", {}, inline(one.replace(/^\s*[-*+]\s+/, "")))),
				),
			);
		} else if (/^\s*\d+[.)]\s+/.test(line)) {
			blocks.push(
				h(
					"ol",
					{},
					taken((one) => /^\s*\d+[.)]\s+/.test(one)).map((one) =>
						h("li", {}, inline(one.replace(/^\s*\d+[.)]\s+/, ""))),
					),
				),
			);
		} else if (/^>\s?/.test(line)) {
			blocks.push(
				h(
					"blockquote",
					{},
					inline(
						taken((one) => /^>\s?/.test(one))
							.map((one) => one.replace(/^>\s?/, ""))
							.join(" "),
					),
				),
			);
		} else if (/^\|.*\|\s*$/.test(line)) {
			const rows = taken((one) => /^\|.*\|\s*$/.test(one)).map((one) => one.trim().slice(1, -1).split("|"));
			const body = rows.filter((row) => !row.every((cell) => /^\s*:?-+:?\s*$/.test(cell)));
			blocks.push(
				h(
					"table",
					{},
					body.map((row, k) =>
						h(
							"tr",
							{},
							row.map((cell) => h(k ? "td" : "th", {}, inline(cell.trim()))),
						),
					),
				),
			);
		} else {
			const words = [lines[n++], ...taken((one) => !/^\s*$|^#|^```|^>|^\s*[-*+]\s|^\s*\d+[.)]\s|^\|/.test(one))];
			blocks.push(h("p", {}, inline(words.join(" "))));
		}
	}
	return blocks;
}

const INLINE = /(`[^`]+`)|(\*\*[^*]+\*\*)|(\*[^*\s][^*]*\*)|(!?\[[^\]]*\]\([^)\s]*\))/;

function inline(text) {
	const parts = [];
	let left = text;
	for (let found = INLINE.exec(left); found; found = INLINE.exec(left)) {
		parts.push(left.slice(0, found.index));
		const [mark] = found;
		if (found[1]) parts.push(h("code", {}, mark.slice(1, -1)));
		else if (found[2]) parts.push(h("strong", {}, mark.slice(2, -2)));
		else if (found[3]) parts.push(h("em", {}, mark.slice(1, -1)));
		else {
			const [, label, to] = /\[([^\]]*)\]\(([^)\s]*)\)/.exec(mark);
			parts.push(h("span", { class: "link", title: to }, label || to));
		}
		left = left.slice(found.index + mark.length);
	}
	return [...parts, left];
}
