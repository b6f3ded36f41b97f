// Workers of rsmq-worker with its own defaults, that have nothing to do between the first word and
// the second.
const RSMQ = require("rsmq");
const RSMQWorker = require("rsmq-worker");
const { task } = require("./shared.js");
const server = { host: "127.0.0.1", port: task.port };
const words = require("readline").createInterface({ input: process.stdin });

const word = () => new Promise((resolve) => words.once("line", resolve));
const usedUs = () => { const { user, system } = process.cpuUsage(); return user + system; };

(async () => {
  await new RSMQ(server).createQueueAsync({ qname: "queue0" });
  for (let i = 0; i < task.callers; i++) {
    const worker = new RSMQWorker("queue0", server);
    worker.on("message", () => { throw new Error("nobody sent a message"); });
    worker.start();
  }
  console.log("ready");
  await word();
  const cpuUs = usedUs();
  await word();
  console.log(JSON.stringify({ cpu_us: usedUs() - cpuUs }));
  process.exit(0);
})();
