# For unicorn, which answers one request at a time in each of its processes.
class Chunks
  def each
    20.times do |number|
      sleep 0.1 if number > 0
      yield "6\r\nchunk\n\r\n"
    end
    yield "0\r\n\r\n"
  end
end

PIECE = "x" * 1_000_000

run(lambda do |env|
  case env["PATH_INFO"]
  when "/chunks" then next [200, { "Transfer-Encoding" => "chunked" }, Chunks.new]
  when "/big" then next [200, { "Content-Length" => "50000000" }, Array.new(50, PIECE)]
  when "/slow" then sleep env["QUERY_STRING"].delete_prefix("ms=").to_i / 1000.0
  end
  body = "#{ENV["REUSE_WORKER_ID"]} #{Process.pid}\n"
  [200, { "Content-Length" => body.bytesize.to_s }, [body]]
end)
