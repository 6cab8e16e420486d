// An Express app without shutdown code.
const express = require("express");
const handler = require("./handler.js");

const app = express();
for (const path of ["/", "/slow", "/chunks", "/big"]) app.get(path, handler);
app.listen(8080, "127.0.0.1");
