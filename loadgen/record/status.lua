-- Asks a node for the status of one invoice after the other, with wrk:
--   NUMBERS=numbers.txt wrk -t1 -c16 -d10s --latency -s loadgen/record/status.lua http://HOST:PORT
-- `numbers.txt` has an invoice number a line, shuffled, of scheme CN-EINV.
local numbers, at = {}, 0
for line in io.lines(os.getenv("NUMBERS")) do
  numbers[#numbers + 1] = line
end

function request()
  at = at % #numbers + 1
  return wrk.format("GET", "/v1/status/CN-EINV/" .. numbers[at])
end
