// Ollama's client for Node: pull, chat, generate, thoughts, tools, forms, vectors. Prints JSON.
import { Ollama } from "ollama";

const [host, model, vectors] = process.argv.slice(2);
const client = new Ollama({ host });
const calm = { model, options: { temperature: 0 } };
const said = (content) => [{ role: "user", content }];
const told = {};

for await (const step of await client.pull({ model: vectors, stream: true })) told.pulled = step.status;
told.models = (await client.list()).models.map((each) => each.name).sort();
told.capabilities = (await client.show({ model })).capabilities;
told.text = (await client.chat({ ...calm, messages: said("count") })).message.content;
let streamed = "";
for await (const part of await client.chat({ ...calm, messages: said("count"), stream: true }))
  streamed += part.message.content;
told.streamed = streamed;
told.generated = (await client.generate({ ...calm, prompt: "count" })).response;
const thought = (await client.chat({ ...calm, messages: said("think") })).message;
told.thought = [thought.thinking, thought.content];
const format = {
  type: "object", properties: { city: { enum: ["Oslo"] } }, required: ["city"],
};
told.form = JSON.parse((await client.chat({ ...calm, messages: said("count"), format })).message.content);
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const asked = await client.chat({ ...calm, messages: said("Will it rain?"), tools: [weather] });
const { name, arguments: given } = asked.message.tool_calls[0].function;
told.call = [name, given];
const result = { role: "tool", tool_name: "weather", content: "count the clouds" };
const messages = [...said("Will it rain?"), asked.message, result];
told.round = (await client.chat({ ...calm, messages, tools: [weather] })).message.content;
told.vectors = (await client.embed({ model: vectors, input: ["a", "b"] })).embeddings.length;
told.running = (await client.ps()).models.length;
await client.delete({ model: vectors });
try {
  await client.chat({ model: "none", messages: said("x") });
} catch (error) {
  told.error = [error.name, error.status_code];
}
console.log(JSON.stringify(told));
