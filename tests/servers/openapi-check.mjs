// Reads a file with {"document": …, "answers": [{"method", "path", "status", "body"}]}. Exits with 1 if the document breaks the rules of OpenAPI 3.1, or an
// answer does not fit the schema that the document has for it.
import { readFileSync } from "node:fs";
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv/dist/2020.js";

const { document, answers } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const problems = [];

const validator = new Validator();
const { valid, errors } = await validator.validate(structuredClone(document));
if (!valid) problems.push({ document: errors });
if (validator.version !== "3.1") problems.push({ version: validator.version });

// The schemas refer to each other by their place in the document.
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema(document, "document");
const escaped = (part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"));
for (const { method, path, status, body } of answers) {
  const place = ["paths", path, method.toLowerCase(), "responses", String(status), "content", "application/json", "schema"];
  const check = ajv.getSchema(`document#/${place.map(escaped).join("/")}`);
  if (!check) problems.push({ undescribed: [method, path, status] });
  else if (!check(body)) problems.push({ answer: [method, path, status], errors: check.errors, body });
}

if (problems.length > 0) {
  console.error(JSON.stringify(problems, null, 2));
  process.exit(1);
}
