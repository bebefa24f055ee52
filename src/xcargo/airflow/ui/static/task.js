// The XComs of a task instance: a list, and the one that was chosen.

import { ask, dag } from "./api.js";
import { badge, bytes, button, h, moment, notice, say, show } from "./dom.js";
import { valuePanel } from "./value.js";

const PAGE = 100;

export async function taskPage(page, where, go) {
  const list = h("ul", { class: "xcoms" });
  const panel = h("section", { class: "panel", "aria-label": "Value" });
  const more = h("div", { class: "more" });
  const tab = window.parent !== window && !where.moved; // Airflow itself shows where we are
  const links = tab ? null : h("nav", { class: "crumbs", "aria-label": "Place" }, crumbs(where, go));
  const filter = h("input", {
    type: "search",
    class: "input",
    placeholder: "Find a key",
    "aria-label": "Find a key",
    oninput: () => narrow(list, filter.value),
  });
  const aside = h("aside", { class: "list", "aria-label": "XComs of this task instance" }, filter, list, more);
  show(page, links, h("div", { class: "split" }, aside, panel));

  let found = [];
  const load = async () => {
    const answer = await ask(dag(where.dag_id, "xcoms"), {
      run_id: where.run_id,
      task_id: where.task_id,
      map_index: where.map_index ?? "-1",
      start: found.length,
      count: PAGE,
    });
    found = [...found, ...answer.xcoms];
    list.append(...answer.xcoms.map((xcom) => h("li", {}, entry(xcom, choose))));
    filter.hidden = found.length < 8;
    show(more, found.length < answer.total ? button(`Show more (${answer.total - found.length})`, load) : null);
    return answer.total;
  };

  const choose = (xcom, { focus = false } = {}) => {
    for (const item of list.querySelectorAll("button")) {
      const chosen = item.dataset.key === xcom.key;
      item.setAttribute("aria-current", chosen ? "true" : "false");
    }
    const query = new URLSearchParams(location.search);
    query.set("key", xcom.key);
    history.replaceState(history.state, "", `?${query}`);
    say(`Value of ${xcom.key}`);
    valuePanel(panel, xcom, go);
    if (focus && matchMedia("(max-width: 760px)").matches) panel.scrollIntoView();
  };

  if ((await load()) === 0) {
    aside.hidden = true;
    show(
      panel,
      notice(
        "This task instance has no XComs",
        "A task stores one when it returns a value that is not None, or calls xcom_push. It may not have run yet.",
      ),
    );
    return;
  }
  if (found.length === 1) {
    aside.hidden = true; // the panel tells all that the list would
  }
  const first = found.find((xcom) => xcom.key === where.key) ?? found.find((x) => x.key === "return_value") ?? found[0];
  choose(first);
}

function entry(xcom, choose) {
  const size = xcom.where === "object" ? `${bytes(xcom.size_bytes)} → ${bytes(xcom.stored_bytes)}` : bytes(xcom.size_bytes);
  return h(
    "button",
    { type: "button", class: "entry", "data-key": xcom.key, onclick: () => choose(xcom, { focus: true }) },
    h("span", { class: "key" }, xcom.key),
    h("span", { class: "facts" }, badge(xcom.type), " ", size, xcom.where === "object" ? "" : " · in the row"),
    xcom.preview ? h("span", { class: "preview" }, xcom.preview) : null,
    h("span", { class: "when" }, moment(xcom.stored_at)),
  );
}

function narrow(list, text) {
  const wanted = text.toLowerCase();
  for (const item of list.children) {
    item.hidden = !item.firstChild.dataset.key.toLowerCase().includes(wanted);
  }
}

function crumbs(where, go) {
  const link = (label, to) =>
    h("a", { href: `?${new URLSearchParams(to)}`, onclick: (event) => (event.preventDefault(), go(to)) }, label);
  const index = where.map_index !== null && where.map_index !== "-1" ? ` [${where.map_index}]` : "";
  return [
    link("All Dags", {}),
    link(where.dag_id, { dag_id: where.dag_id }),
    link(where.run_id, { dag_id: where.dag_id, run_id: where.run_id }),
    h("span", { "aria-current": "page" }, `${where.task_id}${index}`),
  ];
}
