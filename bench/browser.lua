-- wrk's requests as browsers send them: about 600 bytes of head, no two alike in a row, the query string never twice.
local paths = {"/small", "/small/index.html", "/small/app.js", "/small/style.css", "/small/api/v1/items", "/small/logo.svg",
  "/small/search", "/small/cart/checkout"}
local accepts = {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "*/*", "text/css,*/*;q=0.1",
  "application/json, text/plain, */*", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"}
local referers = {"https://localhost/", "https://localhost/search?q=shoes", "https://localhost/cart"}
local heads, turn = {}, 0

function init()
  for i = 1, 240 do
    heads[i] = " HTTP/1.1\r\nHost: localhost\r\n" ..
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" ..
      "Accept: " .. accepts[i % #accepts + 1] .. "\r\n" ..
      "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n" ..
      "Referer: " .. referers[i % #referers + 1] .. "\r\n" ..
      "Cookie: session=" .. string.format("%032x", i * 2654435761) .. "; theme=dark; consent=1\r\n" ..
      "Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\nConnection: keep-alive\r\n\r\n"
  end
end

function request()
  turn = turn + 1
  return "GET " .. paths[turn % #paths + 1] .. "?page=" .. turn .. "&sort=price" .. heads[turn % #heads + 1]
end
