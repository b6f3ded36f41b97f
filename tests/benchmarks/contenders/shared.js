// What the contenders in Node share: their task, warming up, the word they wait for, how they say
// what they did.
const task = JSON.parse(process.argv[2]);
const body = "x".repeat(100);
const warmUp = Math.max(1, Math.floor(task.messages / 10 / task.callers)) * task.callers;
// Its consumers stay, and are not to meet what the producer warms up with.
const warmUpQueue = `warm-up-${task.what}`;

setTimeout(() => { throw new Error("it hangs"); }, 120_000).unref();

// Do something with each of so many messages, the callers sharing them evenly.
const share = (messages, one) => Promise.all(Array.from({ length: task.callers }, async () => {
  for (let i = 0; i < messages / task.callers; i++) await one();
}));

// Send bodies that tell the time, 200 a second.
const pace = async (messages, send) => {
  let due = performance.now();
  for (let i = 0; i < messages; i++) {
    due += 1000 / 200;
    await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    await send(stamp());
  }
};

// A body that tells the time.
const stamp = () => String(process.hrtime.bigint()).padEnd(body.length);

// Whether the messages are in the queue before the work; else another process sends them during the
// work, or there are none.
const isToFill = (qname) => ["receive", "jobs"].includes(task.what)
  || (["drain", "await"].includes(task.what) && qname === warmUpQueue);

// Until so many messages have been handled and deleted; and how long those took on their way that
// tell the time.
const countdown = (messages) => {
  const said = { ns: [] };
  let left = messages;
  let finish;
  const finished = new Promise((resolve) => { finish = resolve; });
  return {
    handle(text) {
      if (task.what === "await") {
        said.ns.push(Number(process.hrtime.bigint() - BigInt(text.trim())));
      }
    },
    deleted() {
      if (--left < 0) throw new Error("more messages came than were sent");
      if (left === 0) finish(Object.assign(said, { ended: Number(process.hrtime.bigint()) }));
    },
    finished,
  };
};

// Prepare and do the task, measured; before that do some of it in another queue. Then count what is
// left, and end.
const measure = async (prepare, work, left) => {
  await prepare(warmUpQueue, warmUp);
  await work(warmUpQueue, warmUp);
  await prepare("benchmark", task.messages);
  console.log("ready");
  await new Promise((resolve) => process.stdin.once("data", resolve));
  const started = Number(process.hrtime.bigint());
  const cpu = process.cpuUsage();
  const said = await work("benchmark", task.messages);
  const ended = Number(process.hrtime.bigint());
  const used = process.cpuUsage(cpu);
  const cpu_us = used.user + used.system;
  console.log(JSON.stringify({ messages: task.messages, started, ended, cpu_us, ...said }));
  const expected = task.what === "send" ? task.messages : 0;
  const found = await left("benchmark");
  if (found !== expected && !["produce", "pace"].includes(task.what)) {
    throw new Error(`${found} messages are in the queue, not ${expected}`);
  }
  process.exit(0);
};

module.exports = { task, body, share, pace, stamp, isToFill, countdown, measure };
