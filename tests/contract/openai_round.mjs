// OpenAI's client for Node: Responses and chat, whole and streamed, forms and tools. Prints JSON.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const calm = { model, temperature: 0 };
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo", "Bergen"] } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { type: "function", name: "weather", strict: true, parameters };
const told = {};

const whole = await client.responses.create({ ...calm, input: "count" });
told.text = whole.output_text;
const stream = client.responses.stream({ ...calm, input: "count" });
let deltas = "";
stream.on("response.output_text.delta", (event) => (deltas += event.delta));
const final = await stream.finalResponse();
told.streamed = [deltas, final.output_text];
const kinds = [];
for await (const event of await client.responses.create({ ...calm, input: "count", stream: true }))
  kinds.push(event.type);
told.ends = [kinds[0], kinds.at(-1)];
const form = zodTextFormat(z.object({ city: z.enum(["Oslo", "Bergen"]) }), "place");
const parsed = await client.responses.parse({ ...calm, input: "count", text: { format: form } });
told.parsed = parsed.output_parsed.city;

const first = await client.responses.create({ ...calm, input: "Will it rain?", tools: [weather] });
const call = first.output.find((item) => item.type === "function_call");
told.strict = JSON.parse(call.arguments).city;
const output = { type: "function_call_output", call_id: call.call_id, output: "count the clouds" };
const next = { ...calm, previous_response_id: first.id, input: [output], tools: [weather] };
told.round = (await client.responses.create(next)).output_text;
const forced = client.responses.stream({
  ...calm, input: "count", tools: [weather], tool_choice: "required",
});
told.forced = (await forced.finalResponse()).output.map((item) => item.type);
const cut = client.responses.stream({ ...calm, input: "count", max_output_tokens: 2 });
told.cut = (await cut.finalResponse()).status;
told.kept = (await client.responses.retrieve(whole.id)).output_text;
told.items = (await client.responses.inputItems.list(whole.id)).data.length;
await client.responses.delete(whole.id);

const messages = [{ role: "user", content: "count" }];
const chat = client.chat.completions.stream({ ...calm, messages });
told.chat = (await chat.finalChatCompletion()).choices[0].message.content;
const several = await client.chat.completions.create({ ...calm, messages, n: 3 });
told.several = several.choices.map((choice) => [choice.index, choice.message.content]);
told.models = (await client.models.list()).data.map((each) => each.id);

told.errors = [];
for (const asked of [{ model: "none", input: "x" }, { ...calm, input: "count ".repeat(9000) }])
  try {
    await client.responses.create(asked);
  } catch (error) {
    told.errors.push([error.constructor.name, error.code]);
  }
console.log(JSON.stringify(told));
