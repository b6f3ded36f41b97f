"use strict";
// Node's rsmq at the other end of a pipe. Its options come as JSON in the first argument, then one
// request a line:
//   {"n": 1, "method": "sendMessage", "options": {...}}
// and one reply, by its number:
//   {"n": 1, "result": ...} or {"n": 1, "error": "queueNotFound", "message": "Queue not found"}
// "subscribe" listens to {"channel": ...}; every announcement comes as
// {"channel": ..., "payload": ...}. "sendJson" sends JSON.stringify of {"value": ...}; "popJson"
// returns JSON.parse of what it has popped.
// It ends when its standard input does.

const readline = require("readline");
const redis = require("redis"); // the one that rsmq itself depends on
const RedisSMQ = require("rsmq");

const options = JSON.parse(process.argv[2]);
const rsmq = new RedisSMQ(options);
let subscriber;

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function subscribe({ channel }) {
  if (!subscriber) {
    subscriber = redis.createClient({ port: options.port });
    subscriber.on("message", (channel, payload) => say({ channel, payload }));
  }
  return new Promise((resolve, reject) => {
    subscriber.subscribe(channel, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

async function popJson(options) {
  return JSON.parse((await rsmq.popMessageAsync(options)).message);
}

function run(method, options) {
  if (method === "subscribe") return subscribe(options);
  if (method === "sendJson") {
    return rsmq.sendMessageAsync({ qname: options.qname, message: JSON.stringify(options.value) });
  }
  if (method === "popJson") return popJson(options);
  return method === "listQueues" ? rsmq.listQueuesAsync() : rsmq[method + "Async"](options);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { n, method, options } = JSON.parse(line);
  try {
    say({ n, result: await run(method, options) });
  } catch (error) {
    say({ n, error: error.name, message: error.message });
  }
});
lines.on("close", () => process.exit());
