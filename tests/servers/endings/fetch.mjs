// The same answers on Bun and on Deno, without shutdown code.
const [bun, deno] = [globalThis.Bun, globalThis.Deno];
const [pid, slot] = bun ? [process.pid, process.env.REUSE_WORKER_ID] : [deno.pid, deno.env.get("REUSE_WORKER_ID")];
const body = `${slot ?? "-"} ${pid}\n`;
const big = new Uint8Array(50_000_000).fill(120);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function chunks() {
  let left = 20;
  return new ReadableStream({
    async pull(controller) {
      controller.enqueue(new TextEncoder().encode("chunk\n"));
      left -= 1;
      if (left === 0) controller.close();
      else await pause(100);
    },
  });
}

async function answer(request) {
  const url = new URL(request.url);
  if (url.pathname === "/slow") await pause(Number(url.searchParams.get("ms")));
  if (url.pathname === "/chunks") return new Response(chunks());
  return new Response(url.pathname === "/big" ? big : body);
}

// Bun closes a connection on which nothing was sent for ten seconds, also while a request is worked on.
if (bun) bun.serve({ hostname: "127.0.0.1", port: 8080, idleTimeout: 60, fetch: answer });
else deno.serve({ hostname: "127.0.0.1", port: 8080 }, answer);
