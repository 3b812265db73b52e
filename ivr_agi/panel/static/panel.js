/* The little that the panel does in the browser. Every page works without it: the server checks all of this again.

   <time data-countdown-until="EPOCH_MS" data-countdown-now="EPOCH_MS" data-done="#button">  seconds left; the button waits
   <form data-once> … <button data-wait="text while it works">                               is sent once
   <button data-copy="text" data-copied="done">   <button data-print>                        clipboard, paper
   <input data-digits>   <input data-card>                                                   digits as the bank writes them
   <input data-toman="{} tomans">                              what the rials keyed are in the money that people speak of */
"use strict";
(() => {
  const page = document.documentElement;
  const inDigitsOfThePage = (number) =>
    page.lang === "fa" ? String(number).replace(/\d/g, (digit) => "۰۱۲۳۴۵۶۷۸۹"[digit]) : String(number);

  // -- countdown: `data-countdown-now` is the server's clock as it wrote the page, should this device's be wrong
  const begun = new WeakSet();
  function countDown(time) {
    if (begun.has(time)) return;
    begun.add(time);
    const until = Number(time.dataset.countdownUntil);
    const ahead = time.dataset.countdownNow ? Date.now() - Number(time.dataset.countdownNow) : 0;
    const button = time.dataset.done ? document.querySelector(time.dataset.done) : null;
    function show() {
      if (!time.isConnected) return;
      const left = Math.max(0, Math.ceil((until + ahead - Date.now()) / 1000));
      time.textContent = inDigitsOfThePage(left);
      if (button) button.disabled = left > 0;
      if (left > 0) setTimeout(show, 250);
      else (time.closest("[data-while]") ?? time).hidden = true;
    }
    show();
  }
  function begin(root) {
    if (root.matches?.("[data-countdown-until]")) countDown(root);
    root.querySelectorAll("[data-countdown-until]").forEach(countDown);
  }
  begin(document);
  document.addEventListener("htmx:load", (event) => begin(event.detail.elt));

  // -- a form that is sent once
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !form.matches("[data-once]")) return;
    if (form.dataset.once === "sent") {
      event.preventDefault();
      return;
    }
    form.dataset.once = "sent";
    form.setAttribute("aria-busy", "true");
    // a disabled button is not sent along: only once the browser has read the form
    setTimeout(() => {
      for (const button of form.querySelectorAll("button:not([type=button]), input[type=submit]")) {
        button.disabled = true;
        if (button.dataset.wait) button.textContent = button.dataset.wait;
      }
    });
  });
  // back from the browser's memory: the page as it was is no longer true, so it is fetched again
  window.addEventListener("pageshow", (event) => {
    if (event.persisted && document.querySelector('[data-once="sent"]')) {
      location.replace(location.pathname + location.search);
    }
  });

  // -- clipboard and paper
  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea"); // without HTTPS there is no other way
    area.value = text;
    area.className = "hidden-visually";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("not copied");
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy], [data-print]");
    if (!button) return;
    if (button.hasAttribute("data-print")) {
      window.print();
      return;
    }
    try {
      await copy(button.dataset.copy);
      if (button.dataset.copied) button.textContent = button.dataset.copied;
      button.setAttribute("aria-live", "polite");
    } catch {
      // the text stands beside its button, to be marked and copied by hand
    }
  });

  // -- digits: Persian and Arabic ones become ASCII, the cursor stays where it is
  const ascii = (text) =>
    text.replace(/[۰-۹٠-٩]/g, (digit) => String(digit.charCodeAt(0) - (digit >= "۰" ? 0x6f0 : 0x660)));
  document.addEventListener("input", (event) => {
    const input = event.target;
    if (!input.matches?.("input[data-digits], input[data-card]") || event.isComposing) return;
    const clean = (text) => (input.matches("[data-card]") ? ascii(text).replace(/[\s\u200c-]/g, "") : ascii(text));
    const wanted = clean(input.value);
    if (wanted === input.value) return;
    const cursor = input.selectionStart === null ? null : clean(input.value.slice(0, input.selectionStart)).length;
    input.value = wanted;
    if (cursor !== null) input.setSelectionRange(cursor, cursor);
  });

  // -- an amount in tomans, below the field of rials: a nought too many is seen before it is paid
  function showTomans(input) {
    const said = input.tomans ?? document.createElement("p");
    if (!input.tomans) {
      input.tomans = said;
      said.className = "hint";
      said.setAttribute("aria-live", "polite");
      input.after(said);
    }
    const rials = ascii(input.value).replace(/[\s,٬،_]/g, "");
    const whole = /^\d{2,15}$/.test(rials) && rials.endsWith("0") && Number(rials) > 0;
    const grouped = (number) => number.toLocaleString(page.lang === "fa" ? "fa-IR" : "en-US");
    said.textContent = whole ? input.dataset.toman.replace("{}", grouped(Number(rials) / 10)) : "";
  }
  document.querySelectorAll("input[data-toman]").forEach(showTomans);
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("input[data-toman]")) showTomans(event.target);
  });

  // -- htmx: what it posts bears the page's token; when the live line stays cut, the page says so
  document.addEventListener("htmx:configRequest", (event) => {
    const token = document.querySelector('meta[name="csrf"]')?.content;
    if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token;
  });
  const lost = document.getElementById("live-lost");
  let worry;
  document.addEventListener("htmx:sseError", () => { worry ??= setTimeout(() => { if (lost) lost.hidden = false; }, 5000); });
  document.addEventListener("htmx:sseOpen", () => {
    clearTimeout(worry);
    worry = undefined;
    if (lost) lost.hidden = true;
  });
})();
