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
const STATE_MEANS = { ...MEANS, 403: ["You may not read this state", MEANS[403][1].replace("them", "it")] };

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
	const means = (/(^assets|\/state)/.test(path) ? STATE_MEANS : MEANS)[response.status];
	if (means) throw new Problem(...means, response.status);
	const answer = await response.json().catch(() => ({}));
	const problem = answer.error ?? {};
	throw new Problem(problem.what ?? `The API server answered ${response.status}`, problem.hint, response.status);
}

/** Path of the answers about the store that a value is in: the XComs of a Dag, the state of its tasks, or of an asset. */
export function store({ dag_id, is_state, asset_id }, name) {
	if (asset_id) return `assets/${asset_id}/state${name && `/${name}`}`;
	return dag(dag_id, is_state ? `state${name && `/${name}`}` : name);
}

/** Path of the answers about a Dag. */
export function dag(dagId, name) {
	return `dags/${encodeURIComponent(dagId)}/${name}`;
}
