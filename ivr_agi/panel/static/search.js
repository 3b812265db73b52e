/* Keeps a whole card number out of the search's address, which proxies write down. What counts as one is the server's rule
   too (model.holds_card): 16 digits of any script, however they are set apart, of a known bank, with a right check digit.

   <form data-no-card="what is said at the field" data-banks="603799 610433 …"> */
"use strict";
(() => {
  const digits = (text) => text.replace(/[۰-۹٠-٩]/g, (d) => String(d.charCodeAt(0) - (d >= "۰" ? 0x6f0 : 0x660)));
  const luhn = (number) =>
    [...number].reduce((sum, digit, place) => {
      const value = Number(digit) * (place % 2 ? 1 : 2);
      return sum + (value > 9 ? value - 9 : value);
    }, 0) % 10 === 0;
  function holdsCard(text, banks) {
    const found = digits(text).matchAll(/(?<!\d)(?=(\d(?:[^\p{L}\p{N}]{0,4}\d){15})(?!\d))/gu);
    return [...found].some(([, run]) => {
      const number = run.replace(/\D/g, "");
      return banks.includes(number.slice(0, 6)) && luhn(number);
    });
  }
  function check(event) {
    const input = event.target;
    const form = input.form;
    if (!form?.dataset?.noCard || !input.setCustomValidity || input.tagName !== "INPUT") return;
    const card = holdsCard(input.value, form.dataset.banks.split(" "));
    input.setCustomValidity(card ? form.dataset.noCard : "");
    if (card) input.reportValidity();
  }
  // before htmx hears of it: a field that is not valid is not sent
  for (const name of ["input", "change"]) document.addEventListener(name, check, true);
})();
