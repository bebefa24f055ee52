// Elements, texts and numbers. Whatever comes from a value gets into the page as text and in no other way.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes ?? {})) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (name === "value" || name === "disabled" || name === "checked" || name === "hidden") element[name] = value;
		else element.setAttribute(name, value === true ? "" : String(value));
	}
	element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
	return element;
}

/** An element. Children that are no elements become text. */
export function h(tag, attributes, ...children) {
	return fill(document.createElement(tag), attributes, children);
}

/** An element of a drawing. */
export function svg(tag, attributes, ...children) {
	return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Put these in place of all that an element holds. */
export function show(element, ...children) {
	element.replaceChildren(
		...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false),
	);
	return element;
}

/** Shows what is drawn of an answer, or its problem; nothing once something else was asked for in the same place. */
export async function showAnswer(element, asked, draw) {
	element.asked = asked;
	const isLatest = () => element.asked === asked;
	try {
		const answer = await asked;
		if (isLatest()) show(element, draw(answer));
	} catch (problem) {
		if (isLatest()) show(element, notice(problem.message, problem.hint, "error"));
	}
}

/** A name, with whatever would turn its letters round or hide them written out: report\u202etxt.exe. */
export function name(text) {
	return String(text).replace(
		/[\p{Cc}\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu,
		(mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`,
	);
}

/** What stands behind the question mark of an address. */
export function query(where) {
	const there = Object.entries(where).filter(([, value]) => value !== null && value !== undefined && value !== "");
	return there.map(([one, value]) => `${one}=${encodeURIComponent(value)}`).join("&");
}

/** What such a text names. Airflow 3.1 fills in a run id as it is, so a plus sign is none but itself. */
export function queried(text) {
	const read = (value) => {
		try {
			return decodeURIComponent(value);
		} catch {
			return value;
		}
	};
	return Object.fromEntries([...text.matchAll(/([^?&=]+)=([^&]*)/g)].map(([, one, value]) => [one, read(value)]));
}

/** Handles an event of a link or form in place of the browser. */
export function instead(work) {
	return (event) => {
		event.preventDefault();
		work(event);
	};
}

/** To another page of ours. */
export function link(label, to, go) {
	return h("a", { href: `?${query(to)}`, onclick: instead(() => go(to)) }, label);
}

/** Say it to screen readers. */
export function say(text) {
	document.getElementById("live").textContent = text;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size as the rest of xcargo writes it: 512 B, 1.5 KiB, 240 MiB. No line ends between the two. */
export function bytes(size) {
	if (size === null || size === undefined) return "–";
	let unit = 0;
	let left = size;
	while (left >= 1024 && unit < UNITS.length - 1) {
		left /= 1024;
		unit += 1;
	}
	const digits = unit === 0 || left >= 100 ? left.toFixed(0) : String(Number(left.toPrecision(3)));
	return `${digits}\u00a0${UNITS[unit]}`;
}

export function number(value) {
	return typeof value === "number" ? value.toLocaleString("en-US") : String(value);
}

/** A number out of a column or array, in the digits that help. */
export function short(text) {
	if (text === null || text === undefined) return "–";
	const value = Number(text);
	if (!Number.isFinite(value)) return String(text).slice(0, 19);
	return Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3)
		? value.toExponential(2)
		: value.toLocaleString("en-US", { maximumFractionDigits: 3 });
}

/** The time zone that was chosen in Airflow, else UTC. */
function timeZone() {
	try {
		const chosen = JSON.parse(localStorage.getItem("timezone"));
		return new Intl.DateTimeFormat("en", { timeZone: chosen }).resolvedOptions().timeZone;
	} catch {
		return "UTC"; // as Airflow shows times before one is chosen
	}
}

const CLOCK = new Intl.DateTimeFormat("en-CA", {
	timeZone: timeZone(),
	hourCycle: "h23",
	year: "numeric",
	month: "2-digit",
	day: "2-digit",
	hour: "2-digit",
	minute: "2-digit",
	second: "2-digit",
});

/** A moment, in Airflow's way to write it. */
export function moment(iso) {
	if (!iso) return "–";
	const date = new Date(iso);
	if (Number.isNaN(date.valueOf())) return String(iso);
	const parts = Object.fromEntries(CLOCK.formatToParts(date).map((part) => [part.type, part.value]));
	return `${parts.year}-${parts.month}-${parts.day} ${parts.hour}:${parts.minute}:${parts.second}`;
}

/** Set sizes and colours that a style sheet cannot know; through the object, which the page's policy allows. */
export function styled(element, styles) {
	Object.assign(element.style, styles);
	return element;
}

export function badge(text, kind = "") {
	return h("span", { class: `badge ${kind}` }, text);
}

export function button(label, onclick, attributes = {}) {
	return h("button", { type: "button", class: "button", onclick, ...attributes }, label);
}

/** What to say when there is nothing, or something went wrong. */
export function notice(title, text, kind = "") {
	return h(
		"div",
		{ class: `notice ${kind}`, role: kind === "error" ? "alert" : null },
		h("strong", {}, title),
		text ? h("p", {}, text) : null,
	);
}
