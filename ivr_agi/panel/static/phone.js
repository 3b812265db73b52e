// The phone in the browser: plays what the line plays, sends keys, and writes down what happens.
// What is keyed is sent key by key and kept nowhere; of cards and PINs only dots are shown.

const root = document.getElementById("phone");
const form = document.getElementById("phone-form");
const keypad = document.getElementById("phone-keypad");
const callButton = document.getElementById("phone-call");
const hangUpButton = document.getElementById("phone-hang-up");
const statusLine = document.getElementById("phone-status");
const nowLine = document.getElementById("phone-now");
const typedLine = document.getElementById("phone-typed");
const hintLine = document.getElementById("phone-hint");
const log = document.getElementById("phone-log");
const logEmpty = document.getElementById("phone-log-empty");
const end = document.getElementById("phone-end");
const variables = end.querySelector("tbody");
const cardChoice = document.getElementById("card");
const keyInButton = document.getElementById("phone-key-in");
const keyButtons = [...keypad.querySelectorAll("[data-key]")];

const csrf = document.querySelector('meta[name="csrf"]').content;
const pageLanguage = document.documentElement.lang;
const KEYS = "0123456789*#";
const DOT = "•";
const NUMBER = /^(numbers\/|rial$|toman$)/; // clips that make up one figure
const SILENCE = "silence";

const audio = new Audio();
let call = null; // of the call that is on: url, stream, and what it listens for

const word = (name) => root.getAttribute(`data-word-${name}`) ?? "";
const trouble = (why) => word(`trouble-${why}`) || word("trouble-connection");

// -- asking the server --------------------------------------------------------------------------------

const post = (url, fields, options = {}) =>
  fetch(url, {
    ...options,
    method: "POST",
    headers: { Accept: "application/json", "X-CSRF-Token": csrf },
    body: new URLSearchParams(fields),
    credentials: "same-origin",
  });

// One after the other: keys must arrive in the order in which they were pressed.
function send(what, fields) {
  const mine = call;
  mine.sent = mine.sent.then(async () => {
    if (call !== mine) return;
    const answer = await post(`${mine.url}/${what}`, fields).catch(() => null);
    if (!answer?.ok && call === mine) fail("connection");
  });
}

// -- what is heard ------------------------------------------------------------------------------------

let playing = 0; // the event whose file is played; 0: none, or music

function quiet() {
  playing = 0;
  audio.pause();
}

function play(path, number) {
  quiet();
  audio.loop = number === 0;
  audio.src = `${root.dataset.sounds}/${path}`;
  playing = number;
  audio.play().catch((error) => {
    if (error.name === "NotAllowedError" && call) {
      note(word("trouble-blocked"), "notice notice-bad");
      heard();
    }
  });
}

function heard() {
  const number = playing;
  playing = 0;
  if (number && call) send("played", { seq: number });
}

audio.addEventListener("ended", heard);
audio.addEventListener("error", heard);

// -- what is written down -----------------------------------------------------------------------------

function element(tag, text = "", css = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (css) made.className = css;
  return made;
}

function line(...parts) {
  const item = element("li");
  item.append(...parts);
  logEmpty.hidden = true;
  log.append(item);
  return item;
}

const note = (text, css = "") => line(element("p", text, css));

function spoken(text, language, css = "") {
  const made = element("p", text, css);
  made.lang = language;
  made.dir = language === "fa" ? "rtl" : "ltr";
  return made;
}

const inDigits = (text) =>
  pageLanguage === "fa" ? text.replace(/[0-9]/g, (digit) => "۰۱۲۳۴۵۶۷۸۹"[digit]) : text;

function show(place, text) {
  place.hidden = !text;
  (place.querySelector("b") ?? place).textContent = text;
}

function transcribe(event) {
  if (event.name === SILENCE) return;
  const said = event.words[event.language || call.language] ?? event.name;
  const figure = NUMBER.test(event.name);
  if (figure && call.figure) {
    call.figure.textContent += ` ${said}`;
  } else {
    const parts = [spoken(said, event.language || call.language)];
    const meaning = event.words[pageLanguage];
    if (!figure && meaning && meaning !== said) parts.push(spoken(meaning, pageLanguage, "muted"));
    line(...parts);
    call.figure = figure ? parts[0] : null;
  }
  show(nowLine, call.figure?.textContent ?? said);
}

function showTyped(typed) {
  call.typed = typed;
  if (call.keyed) call.keyed.textContent = typed;
  show(typedLine, typed);
}

// A line for an answer; it is filled as keys are pressed.
function beginAnswer() {
  const digits = element("b", "", "ltr");
  const text = element("p", `${word("keyed")} `);
  text.append(digits);
  line(text);
  call.keyed = digits;
}

function tabulate(name, value) {
  let row = [...variables.rows].find((each) => each.cells[0].textContent === name);
  if (!row) {
    row = variables.insertRow();
    const head = element("th");
    head.scope = "row";
    head.append(element("bdi", name, "ltr"));
    row.append(head, element("td"));
  }
  row.cells[1].replaceChildren(element("bdi", value));
  end.hidden = false;
}

// -- what happens -------------------------------------------------------------------------------------

const happen = {
  play(event) {
    call.listening = event.keys;
    call.collecting = false;
    ask(event);
  },
  collect(event) {
    call.listening = event.keys;
    call.collecting = true;
    call.hidden = event.hidden;
    if (!event.kept) {
      call.keyed = null;
      showTyped("");
    }
    ask(event);
  },
  stop: quiet,
  keyed(event) {
    if (!call.collecting) {
      // It has cut what was played: the first of an answer, of whatever kind.
      call.keyed = null;
      beginAnswer();
      showTyped(DOT);
    } else if (event.count === 0 && !call.typed) {
      note(word("nothing-keyed"), "muted");
    }
    call.listening = "";
    call.collecting = false;
  },
  music(event) {
    call.listening = "";
    if (event.on) {
      note(`♪ ${word("music")}`, "muted");
      show(nowLine, "♪");
      if (root.dataset.music) play(root.dataset.music, 0);
    } else if (!playing) {
      quiet();
    }
  },
  language(event) {
    call.language = event.language;
    note(`${word("language-now")} ${word(`language-${event.language}`)}`, "muted");
  },
  sms(event) {
    const box = element("div", "", "notice notice-info");
    box.append(element("p", word("sms")), ...event.text.split("\n").map((text) => spoken(text, "fa")));
    line(box);
  },
  missing(event) {
    const box = element("div", "", "notice notice-warn");
    const text = element("p", `${word("missing")} `);
    text.append(element("bdi", `${event.language}/${event.name}`, "ltr"));
    box.append(text);
    line(box);
  },
  variable: (event) => tabulate(event.name, event.value),
  trouble(event) {
    const box = element("div", "", "notice notice-bad");
    box.append(element("p", trouble(event.why)));
    line(box);
  },
  ended(event) {
    for (const [name, value] of Object.entries(event.variables)) tabulate(name, value);
    over();
  },
};

function ask(event) {
  if (call.figure && !NUMBER.test(event.name) && event.name !== SILENCE) call.figure = null;
  show(hintLine, "");
  transcribe(event);
  if (event.language) {
    play(`${event.language}/${event.name}.wav`, event.seq);
  } else {
    quiet();
    playing = event.seq;
    heard();
  }
}

// -- the call -----------------------------------------------------------------------------------------

async function begin() {
  const fields = new URLSearchParams(new FormData(form));
  log.replaceChildren();
  variables.replaceChildren();
  end.hidden = true;
  callButton.disabled = true;
  statusLine.textContent = word("calling");
  play("fa/silence.wav", 0); // sound is allowed from now on: this was a click
  audio.loop = false;
  const answer = await post(root.dataset.calls, fields).catch(() => null);
  const told = await answer?.json().catch(() => null);
  if (!answer?.ok || !told?.id) {
    fail(told?.trouble ?? "connection");
    return;
  }
  const url = `${root.dataset.calls}/${encodeURIComponent(told.id)}`;
  const language = fields.get("language") === "en" ? "en" : "fa";
  const stream = new EventSource(`${url}/events`);
  call = { url, stream, language, listening: "", collecting: false, hidden: false, typed: "" };
  call.sent = Promise.resolve();
  call.keyed = call.figure = null;
  stream.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    if (call?.stream === stream) happen[event.kind]?.(event);
  });
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED && call?.stream === stream) fail("connection");
  });
  turn(true);
  statusLine.textContent = word("on-the-line");
  keypad.focus();
}

function turn(on) {
  callButton.disabled = on;
  hangUpButton.disabled = !on;
  for (const button of [...keyButtons, keyInButton]) button.disabled = !on;
}

// Who leaves the page has put the receiver down; some browsers break the stream off before they say so.
function leave() {
  if (call) post(`${call.url}/hangup`, {}, { keepalive: true }).catch(() => {});
}

function fail(why) {
  leave();
  happen.trouble({ why });
  over();
}

function over() {
  statusLine.textContent = word(call ? "ended" : "idle");
  const within = keypad.contains(document.activeElement) || document.activeElement === hangUpButton;
  call?.stream.close();
  call = null;
  quiet();
  turn(false);
  for (const place of [nowLine, typedLine, hintLine]) show(place, "");
  if (within) callButton.focus();
}

function press(key) {
  if (!call) return;
  if (call.listening.includes(key)) {
    quiet(); // at once; the line says so, too
    if (call.collecting) {
      if (!call.keyed) beginAnswer();
      showTyped(call.typed + (call.hidden && !"*#".includes(key) ? DOT : inDigits(key)));
    }
    show(hintLine, "");
  } else {
    show(hintLine, word(playing ? "lost-key" : "no-question"));
  }
  send("keys", { key });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!call) begin();
});
hangUpButton.addEventListener("click", () => call && send("hangup", {}));
for (const button of keyButtons) button.addEventListener("click", () => press(button.dataset.key));
keyInButton.addEventListener("click", () => {
  for (const key of cardChoice.value) press(key);
});
document.addEventListener("keydown", (event) => {
  if (!call || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("input, select, textarea")) return;
  let key = event.key.replace(/[۰-۹]/, (digit) => digit.charCodeAt(0) - 0x6f0);
  if (key === "Enter" && !event.target.closest("a, button, summary")) key = "#";
  if (!KEYS.includes(key)) return;
  event.preventDefault();
  press(key);
});
addEventListener("pagehide", leave);

root.hidden = false;
