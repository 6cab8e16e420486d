// A Node server with the handler that most people write.
require("./plain.js");

process.on("SIGTERM", () => process.exit(0));
