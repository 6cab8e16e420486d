// The same for runners of TypeScript, for which `./server.js` could be a `server.ts`.
const what: string = "./server.js";
require(what);
