// Anthropic's client for Node: messages whole and streamed, thoughts, tools. Prints JSON.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";

const [url, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const said = (content) => [{ role: "user", content }];
const calm = { model, temperature: 0, max_tokens: 200 };
const schema = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo", "Bergen"] } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { name: "weather", description: "The weather.", input_schema: schema };
const told = {};

told.text = (await client.messages.create({ ...calm, messages: said("count") })).content[0].text;
const stream = client.messages.stream({ ...calm, messages: said("count") });
let deltas = "";
stream.on("text", (text) => (deltas += text));
const last = await stream.finalMessage();
told.streamed = [deltas, last.content[0].text, last.stop_reason];
const thought = await client.messages.stream({ ...calm, messages: said("think") }).finalMessage();
told.thought = thought.content.map((block) => [block.type, block.thinking ?? block.text]);
const forced = client.messages.stream({
  ...calm, max_tokens: 2000, messages: said("count"), tools: [weather], tool_choice: { type: "any" },
});
told.forced = (await forced.finalMessage()).content.find((b) => b.type === "tool_use").input.city;
const asked = [];
const run = ({ city }) => {
  asked.push(city);
  return "count the clouds";
};
const runs = await client.beta.messages.toolRunner({
  ...calm,
  messages: said("Will it rain?"),
  tools: [betaTool({ name: "weather", description: "The weather.", inputSchema: schema, run })],
});
told.round = [asked.length, runs.content[0].text];
told.counted = (await client.messages.countTokens({ model, messages: said("count") })).input_tokens;
told.models = (await client.models.list()).data.map((each) => each.id);
told.errors = [];
for (const wrong of [{ model: "none" }, { messages: said("count ".repeat(9000)) }])
  try {
    await client.messages.create({ ...calm, messages: said("x"), ...wrong });
  } catch (error) {
    told.errors.push([error.constructor.name, error.status]);
  }
console.log(JSON.stringify(told));
