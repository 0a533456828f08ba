// Call now, await later: for functions that run in Hearth.
//
// Copy this file beside the function's own. A call runs when the machine has
// capacity to spare, and in time for when the code will ask for its answer,
// which Hearth learns from earlier runs.
//
//   const resized = await call("resize", { key: "a.png" });
//   ...                                  // what does not need the answer
//   const answer = await resized.result();   // now it is needed

const base = (process.env.AWS_ENDPOINT_URL ?? "") + "/_hearth/v1/calls";

async function ask(method, path, body) {
  const answer = await fetch(base + path, { method, body, headers: { "X-Hearth-Call": "1" } });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return { status: answer.status, failed: answer.headers.get("x-amz-function-error"), text };
}

// A call that was made. id is the request id that its run has.
class Call {
  constructor(made) {
    Object.assign(this, made);
  }

  // done tells whether the answer is there, after so many seconds at most. The
  // call stays as urgent as it was.
  async done(wait = 0) {
    return (await ask("GET", `/${this.id}?need=false&wait=${wait}`)).status === 200;
  }

  // result is the answer. A call that still waits is run at once.
  async result() {
    for (;;) {
      const { status, failed, text } = await ask("GET", `/${this.id}?wait=30`);
      if (status !== 200) continue;
      if (failed) throw new Error(text);
      return JSON.parse(text);
    }
  }
}

// call calls a function of the account. needIn says, in seconds, when the answer
// will be needed, where that is not to be learned.
export async function call(name, event = {}, { qualifier = "", needIn = 0 } = {}) {
  const query = new URLSearchParams({ function: name, qualifier });
  if (needIn) query.set("needIn", String(needIn));
  return new Call(JSON.parse((await ask("POST", `?${query}`, JSON.stringify(event))).text));
}
