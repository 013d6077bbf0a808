// What the page asks of the server; every refusal is an error whose message is a line for the user.

export class Refused extends Error {}

export async function ask(method, path, body, more = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, body, ...more });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let line = `The server answered with ${answer.status}.`;
  try {
    line = sentence((await answer.json()).error);
  } catch { /* not one of its own lines */ }
  throw new Refused(line);
}

export async function askJson(method, path, content) {
  const body = content === undefined ? undefined : JSON.stringify(content);
  return (await ask(method, path, body)).json();
}

// Delete what the page made, also while it is being left.
export function forget(path) {
  if (path) fetch(path, { method: "DELETE", keepalive: true }).catch(() => {});
}

export function sentence(line) {
  const end = /[.!?]$/.test(line) ? "" : ".";
  return line.charAt(0).toUpperCase() + line.slice(1) + end;
}
