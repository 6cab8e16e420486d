// What all Node servers of this folder answer; README.md has the table.
const body = `${process.env.REUSE_WORKER_ID ?? "-"} ${process.pid}\n`;
const big = Buffer.alloc(50_000_000, "x");

function chunks(response, left) {
  response.write("chunk\n");
  if (left > 1) setTimeout(chunks, 100, response, left - 1);
  else response.end();
}

module.exports = (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/slow") setTimeout(() => response.end(body), Number(url.searchParams.get("ms")));
  else if (url.pathname === "/chunks") chunks(response, 20);
  else if (url.pathname === "/big") response.end(big);
  else response.end(body);
};
