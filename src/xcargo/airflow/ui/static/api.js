// Questions to the API server: GET only, with the login of the page.

import { query } from "./dom.js";

export class Problem extends Error {
	constructor(what, hint, status) {
		super(what);
		this.hint = hint;
		this.status = status;
	}
}

const MEANS = {
	401: ["You are not logged in", "Log in to Airflow and open this page again."],
	403: ["You may not read the XComs of this Dag", "Ask whoever administers Airflow for the right to read them."],
};

/** The address of an answer. */
export function address(path, asked) {
	return `./api/${path}?${query(asked ?? {})}`;
}

/** An answer. What was typed goes into headers, for addresses get into access logs. Throws Problem, for the reader. */
export async function ask(path, asked, { signal, typed } = {}) {
	const headers = { accept: "application/json" };
	for (const [name, text] of Object.entries(typed ?? {}))
		if (text) headers[`x-xcargo-${name}`] = encodeURIComponent(text);
	let response;
	try {
		response = await fetch(address(path, asked), { signal, headers });
	} catch (error) {
		if (error.name === "AbortError") throw error;
		throw new Problem("The API server does not answer", "It may be restarting; try again in a moment.", 0);
	}
	if (response.ok) return response.json();
	if (MEANS[response.status]) throw new Problem(...MEANS[response.status], response.status);
	const answer = await response.json().catch(() => ({}));
	const problem = answer.error ?? {};
	throw new Problem(problem.what ?? `The API server answered ${response.status}`, problem.hint, response.status);
}

/** Path of the answers about a Dag. */
export function dag(dagId, name) {
	return `dags/${encodeURIComponent(dagId)}/${name}`;
}
