// One measurement in a process of its own: socket, what, callers, messages; prints messages a second.
const RSMQ = require("rsmq");
const [socket, what, callers, messages] = [process.argv[2], process.argv[3], +process.argv[4], +process.argv[5]];
const rsmq = new RSMQ({ client: require("redis").createClient({ path: socket }), realtime: true });
const qname = "benchmark";
const message = "x".repeat(100);

const times = (n, work) => Promise.all(Array.from({ length: callers }, async () => {
  for (let i = 0; i < n; i++) await work();
}));
const send = () => rsmq.sendMessageAsync({ qname, message });
const receive = async () => {
  const { id } = await rsmq.receiveMessageAsync({ qname });
  if (!id || (await rsmq.deleteMessageAsync({ qname, id })) !== 1) throw new Error("a message is missing");
};

(async () => {
  await rsmq.createQueueAsync({ qname, vt: 3600 }).catch(() => {});
  if (what === "receive") await times(Math.ceil(messages / callers), send);
  const work = what === "send" ? send : receive;
  await times(1, work); // warm up
  const each = Math.floor(messages / callers) - 1;
  const started = process.hrtime.bigint();
  await times(each, work);
  console.log((callers * each * 1e9) / Number(process.hrtime.bigint() - started));
  process.exit(0);
})();
