// Keeps the page live: new and ended questions, times in the reader's zone, and what is left of them.
// Without it the page works the same, by loading it again.
"use strict";

const main = document.getElementById("main");
const news = document.getElementById("news");
const connection = document.getElementById("connection");
const kind = main.dataset.live;

// --- times ---

function inWords(seconds) {
  if (seconds <= 0) return "now";
  if (seconds < 90) return `in ${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `in ${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `in ${Math.round(seconds / 3600)} h`;
  return `in ${Math.round(seconds / 86400)} days`;
}

// With day and zone: an open page is read the next day, and a picture of it elsewhere.
const inZone = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", second: "2-digit",
  timeZoneName: "short",
});

function showTimes() {
  for (const each of document.querySelectorAll("time")) {
    const at = new Date(each.dateTime);
    const local = inZone.format(at);
    const until = each.dataset.until;
    const text = until ? `${local} (${inWords((at - Date.now()) / 1000)})` : local;
    if (each.textContent !== text) each.textContent = text;
  }
}

// --- changes ---

function replacePart(id, fresh) {
  const old = document.getElementById(id);
  const part = fresh.getElementById(id);
  if (old && part && old.outerHTML !== part.outerHTML) old.replaceWith(document.adoptNode(part));
}

function updateCard(own, fresh) {
  const hadFocus = own.contains(document.activeElement);
  own.className = fresh.className;
  own.dataset.version = fresh.dataset.version;
  own.replaceChildren(...fresh.childNodes);
  if (hadFocus) own.querySelector("a").focus();
}

// Each question keeps its element, so that focus and reading position stay where they are.
function updateList(fresh) {
  const list = document.getElementById("questions");
  const other = fresh.getElementById("questions");
  if (!other) return; // it says that something is wrong
  const wanted = [...other.children];
  const ids = new Set(wanted.map((each) => each.id));
  const had = document.activeElement && document.activeElement.closest("#questions > li");
  const next = had && (had.nextElementSibling || had.previousElementSibling);
  for (const each of [...list.children]) if (!ids.has(each.id)) each.remove();
  const old = new Map([...list.children].map((each) => [each.id, each]));
  let added = 0;
  let place = list.firstElementChild;
  for (const each of wanted) {
    let own = old.get(each.id);
    if (!own) {
      own = document.adoptNode(each);
      added += 1;
    } else if (own.dataset.version !== each.dataset.version) {
      updateCard(own, document.adoptNode(each));
    }
    if (own === place) place = place.nextElementSibling;
    else list.insertBefore(own, place);
  }
  if (had && !had.isConnected) (next && next.isConnected ? next.querySelector("a") : main).focus();
  replacePart("heading", fresh);
  replacePart("pages", fresh);
  const heading = document.getElementById("heading").textContent;
  if (added) news.textContent = `${added === 1 ? "One new question" : `${added} new questions`}. ${heading}`;
}

function updateQuestion(fresh) {
  const state = document.getElementById("state");
  const other = fresh.getElementById("state");
  if (!other || state.dataset.version === other.dataset.version) return;
  const isOver = other.dataset.over === "yes";
  const text = other.querySelector("strong").textContent;
  const said = state.querySelector("strong").textContent;
  state.replaceWith(document.adoptNode(other));
  const form = document.getElementById("answer");
  if (form && (isOver || !fresh.getElementById("answer"))) {
    const hadFocus = form.contains(document.activeElement);
    form.remove();
    if (hadFocus) main.focus();
  }
  if (text !== said) news.textContent = text;
}

let isLoading = false;
let isWanted = false;

function load() {
  if (isLoading) {
    isWanted = true;
    return;
  }
  isLoading = true;
  isWanted = false;
  const request = new XMLHttpRequest(); // parses the page without a sink for scripts, as Trusted Types demand
  request.open("GET", main.dataset.path || location.href);
  request.setRequestHeader("X-Requested-With", "page.js");
  request.responseType = "document";
  request.onloadend = () => {
    isLoading = false;
    const fresh = request.response;
    if (request.status === 401) signedOut();
    else if (fresh && fresh.getElementById("main")) {
      if (kind === "list") updateList(fresh);
      else updateQuestion(fresh);
      document.title = fresh.title;
      replacePart("tabs", fresh);
      showTimes();
    }
    if (isWanted) load();
  };
  request.send();
}

// --- connection ---

let changes = null;
let isSignedOut = false;

function say(text) {
  if (connection.textContent !== text) connection.textContent = text;
  connection.hidden = !text;
}

function signedOut() {
  isSignedOut = true;
  if (changes) changes.close();
  say("You are no longer signed in. Load the page again to sign in.");
}

function listen() {
  if (isSignedOut) return;
  const source = new EventSource("/changes");
  changes = source;
  source.addEventListener("change", () => {
    say("");
    load();
  });
  source.onerror = () => {
    say("The connection is lost, so what you see may be out of date. It is being made again.");
    if (source.readyState !== EventSource.CLOSED) return; // it tries again itself
    load(); // finds out whether somebody is still signed in
    setTimeout(() => changes === source && listen(), 5000);
  };
}

// A browser has six connections to a host at most: pages of questions that nobody looks at give theirs back.
document.addEventListener("visibilitychange", () => {
  if (kind !== "question") return;
  changes.close();
  if (!document.hidden) listen();
});

// --- forms ---

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault(); // a second click is no second answer
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-once]")) delete form.dataset.sent;
});

showTimes();
setInterval(showTimes, 1000);
if (kind) listen();
