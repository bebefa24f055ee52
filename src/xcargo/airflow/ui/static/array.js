// An array: in numbers, as a picture, and item by item.

import { ask } from "./api.js";
import { button, h, notice, number, short, show } from "./dom.js";
import { bars, heat, line } from "./plots.js";

export function arrayView(where, value) {
  const summary = h("div", { class: "cards" }, h("p", { class: "hint", "aria-busy": "true" }, "Loading …"));
  const picture = h("div", {});
  const items = h("div", { class: "grid data", tabindex: "0", role: "region", "aria-label": "Items" });
  const outer = value.shape.slice(0, -2);
  const indexes = outer.map(() => 0);
  const get = (part, more) => ask(where.path("array"), { ...where.query, part, indexes: indexes.join(","), ...more });
  const fail = (element) => (problem) => show(element, notice(problem.message, problem.hint, "error"));
  const draw = () => {
    if (value.shape.length) get("picture").then((told) => show(picture, pictureOf(told, value))).catch(fail(picture));
    page(0, 0);
  };
  const page = (start, first) => get("page", { start, first }).then((told) => show(items, pageOf(told, page))).catch(fail(items));
  get("summary").then((told) => show(summary, summaryOf(told))).catch(fail(summary));
  draw();
  const choose = outer.map((size, axis) => {
    const input = h("input", { type: "number", class: "input short", min: 0, max: size - 1, value: 0, "aria-label": `Index along axis ${axis}` });
    input.addEventListener("change", () => {
      indexes[axis] = Math.min(Math.max(0, Number(input.value)), size - 1);
      draw();
    });
    return h("label", {}, `axis ${axis} of ${number(size)}: `, input);
  });
  return h("div", { class: "array-view" }, summary, choose.length ? h("div", { class: "bar" }, choose) : null, picture, items);
}

function summaryOf(told) {
  const card = (name, text) => h("div", { class: "card" }, h("div", { class: "name" }, name), h("div", { class: "big" }, text));
  const of = told.sampled !== undefined && told.sampled < told.count ? `of a sample of ${number(told.sampled)} items` : "";
  return [
    card("shape", told.shape.map(number).join(" × ") || "one item"),
    card("dtype", told.dtype),
    told.min !== undefined ? [card("least", short(told.min)), card("mean", short(told.mean)), card("greatest", short(told.max)), card("std", short(told.std))] : null,
    told.not_finite ? card("not finite", number(told.not_finite)) : null,
    told.bins ? h("div", { class: "card wide" }, h("div", { class: "name" }, `distribution ${of}`), bars(told.bins, `${short(told.min)} to ${short(told.max)}`, { width: 220, height: 44 })) : null,
  ];
}

function pictureOf(told, value) {
  if (told.kind === "line" && told.values.some((one) => one !== null)) return line(told.places, told.values, shown([told.values.length], value.shape, value.dtype));
  if (told.kind === "heat" && told.cells.flat().some((one) => one !== null)) {
    return heat(told.cells, shown([told.rows.length, told.columns.length], value.shape.slice(-2), value.dtype));
  }
  return null;
}

/** How many of the items a picture shows. */
function shown(part, whole, dtype) {
  const [some, all] = [part, whole].map((sizes) => sizes.map(number).join(" × "));
  const what = dtype.startsWith("complex") ? "magnitudes" : "items";
  return some === all ? `all ${all} ${what}` : `${some} of ${all} ${what}, evenly spread`;
}

function pageOf(told, page) {
  const columns = told.cells[0]?.length ?? 0;
  const body = told.cells.map((row, n) => h("tr", {}, h("th", { scope: "row", class: "index" }, number(told.start + n)), row.map((cell) => h("td", { class: "end" }, cell))));
  const head = h("tr", {}, h("th", { scope: "col", class: "index" }, "#"), Array.from({ length: columns }, (_, n) => h("th", { scope: "col", class: "end" }, number(told.first + n))));
  return [
    h("table", {}, h("thead", {}, head), h("tbody", {}, body)),
    h(
      "div",
      { class: "bar foot" },
      button("‹", () => page(Math.max(0, told.start - 50), told.first), { "aria-label": "Rows before", disabled: told.start === 0 }),
      h("span", {}, `rows ${number(told.start + 1)}–${number(told.start + told.cells.length)} of ${number(told.rows)}`),
      button("›", () => page(told.start + 50, told.first), { "aria-label": "Next rows", disabled: told.start + 50 >= told.rows }),
      told.columns > 20
        ? [
            button("‹", () => page(told.start, Math.max(0, told.first - 20)), { "aria-label": "Columns before", disabled: told.first === 0 }),
            h("span", {}, `columns ${number(told.first + 1)}–${number(told.first + columns)} of ${number(told.columns)}`),
            button("›", () => page(told.start, told.first + 20), { "aria-label": "Next columns", disabled: told.first + 20 >= told.columns }),
          ]
        : null,
    ),
  ];
}
