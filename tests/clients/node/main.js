// A client of raftmq in Node: the descriptor set, one address of any node, no other library.
//
//     node main.js DESCRIPTORS HOST:PORT TOPIC COUNT
//
// Creates TOPIC, sends COUNT keyed records in one call and COUNT more down a stream, reads everything back from a
// subscription, and prints what it saw as one JSON object.
"use strict";

const fs = require("node:fs");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PARTITIONS = 3;

function load(file) {
  // 64-bit integers as text: a JavaScript number holds 53 bits.
  const options = { keepCase: true, longs: String, enums: String, bytes: Buffer, defaults: true, oneofs: true };
  const loaded = protoLoader.loadFileDescriptorSetFromBuffer(fs.readFileSync(file), options);
  return { api: grpc.loadPackageDefinition(loaded).raftmq.v1, codecs: loaded };
}

function caller(stub) {
  return (method, request) => promisify(stub[method].bind(stub))(request);
}

// The server deals the records to their keys' partitions.
async function produceKeyed(call, topic, count) {
  const records = [];
  for (let n = 0; n < count; n++) {
    records.push({ key: Buffer.from(`key ${n % 20}`), value: Buffer.from(`keyed ${n}`) });
  }
  const answer = await call("Produce", { topic, records });
  const perPartition = new Array(PARTITIONS).fill(0);
  for (const result of answer.results) {
    if (result.result === "error") throw new Error(result.error.message);
    perPartition[result.partition] += result.record_positions.length;
  }
  return perPartition;
}

// One record a batch, all under way at once; results come as they are settled.
async function produceStream(broker, call, codecs, topic, count) {
  const producer = await call("InitProducer", {});
  const stream = broker.ProduceStream();
  for (let n = 0; n < count; n++) {
    // A batch is a serialised RecordSet beside its header. An idempotent producer numbers its records per partition.
    const records = codecs["raftmq.v1.RecordSet"].serialize({ records: [{ value: Buffer.from(`streamed ${n}`) }] });
    const header = { count: 1, raw_size: records.length, producer_id: producer.producer_id, first_sequence: n };
    stream.write({ correlation_id: n, produce: { topic, partition: 0, batch: { header, records } } });
  }
  stream.end();
  const offsets = new Array(count);
  for await (const result of stream) {
    if (result.result === "error") throw new Error(`batch ${result.correlation_id}: ${result.error.message}`);
    offsets[Number(result.correlation_id)] = Number(result.response.receipt.base_offset);
  }
  return offsets;
}

async function subscribe(broker, codecs, topic, end) {
  const stream = broker.Subscribe();
  stream.write({ subscription: { topic, partition: 0, offset: 0 }, records: 10, bytes: 1 << 20 });
  const values = [];
  for await (const answer of stream) {
    let records = 0;
    let bytes = 0;
    for (const batch of answer.batches) {
      const set = codecs["raftmq.v1.RecordSet"].deserialize(batch.records);
      values.push(...set.records.map((record) => record.value.toString()));
      records += batch.header.count;
      bytes += batch.records.length;
    }
    if (values.length >= end) break;
    stream.write({ records, bytes });
  }
  stream.on("error", () => {}); // it is told that it was cancelled
  stream.cancel();
  return values;
}

// What is wrong and what became of the call stand in two plain trailers.
async function refusal(call) {
  try {
    await call("Produce", { topic: "no-such-topic" });
  } catch (error) {
    const [reason] = error.metadata.get("raftmq-reason");
    const [outcome] = error.metadata.get("raftmq-outcome");
    return `${grpc.status[error.code]} ${reason} ${outcome}`;
  }
  throw new Error("a topic that nobody created was written to");
}

async function main() {
  const [descriptors, address, topic, count] = process.argv.slice(2);
  const { api, codecs } = load(descriptors);
  const broker = new api.Broker(address, grpc.credentials.createInsecure());
  const admin = new api.Admin(address, grpc.credentials.createInsecure());
  const call = caller(broker);
  const created = await caller(admin)("CreateTopic", { name: topic, partitions: PARTITIONS, replication_factor: 3 });
  const keyed = await produceKeyed(call, topic, Number(count));
  const streamed = await produceStream(broker, call, codecs, topic, Number(count));
  const { partitions } = await call("ListOffsets", { topic, partitions: [0] });
  const read = await subscribe(broker, codecs, topic, Number(partitions[0].high_watermark));
  const refused = await refusal(call);
  console.log(JSON.stringify({ cluster_id: created.header.cluster_id, keyed, streamed, read, refused }));
  broker.close();
  admin.close();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
