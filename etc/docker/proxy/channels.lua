-- The load balancer's part in WebSockets: it asks a gateway where the kernel's agent is, and connects the client to it.
--
-- enterprise_gateway/web/channels/handover.py is the other side. EG_BALANCER_SECRET_FILE holds the secret of both.

local ASK_MS = 60000 -- a gateway may have to ask the engine first
local START_SECONDS = 5 -- how long after its start a balancer may not have found the replicas yet
local POLL_MS = 50
-- what concerns one connection only (RFC 9110 section 7.6.1)
local OF_CONNECTION = { ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true, ["transfer-encoding"] = true }

local secret
local path = os.getenv("EG_BALANCER_SECRET_FILE") or ""
if path ~= "" then
    local file = assert(io.open(path, "r"))
    secret = file:read("a"):match("^%s*(.-)%s*$")
    file:close()
    assert(secret ~= "", "the file in EG_BALANCER_SECRET_FILE is empty")
end

local started = os.time()

-- HAProxy counts the values of a header from 0, Lua and HAProxy's own client from 1.
local function read_headers(http)
    local headers = {}
    for name, values in pairs(http:req_get_headers()) do
        headers[name] = {}
        for index = 0, #values do
            headers[name][index + 1] = values[index]
        end
    end
    return headers
end

-- Sets txn.agent_* if the gateway says where the agent is. If it says that there is none to connect to, nothing is set,
-- and the request takes its usual way. Every other answer is the client's.
local function find_agent(txn)
    local headers = read_headers(txn.http)
    headers["x-eg-balancer"] = { secret }
    local answer = core.httpclient():get({
        url = "http://gateways" .. txn.sf:pathq(),
        dst = "abns@gateways",
        headers = headers,
        timeout = ASK_MS,
    })
    if answer.status ~= 204 then
        local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
        for name, values in pairs(answer.headers) do
            for _, value in pairs(OF_CONNECTION[name] and {} or values) do
                reply:add_header(name, value)
            end
        end
        txn:done(reply)
        return
    end
    local function get(name)
        return answer.headers[name] and answer.headers[name][0] or ""
    end
    local host, port = get("x-eg-agent-address"):match("^%[?([%x.:]-)%]?:(%d+)$")
    if host then
        txn:set_var("txn.agent_host", host)
        txn:set_var("txn.agent_port", port)
        txn:set_var("txn.agent_target", get("x-eg-agent-target"))
        txn:set_var("txn.agent_authorization", get("x-eg-agent-authorization"))
    end
end

-- A balancer that has just been started, or reloaded, learns within a second or two which replicas there are.
local function await_replica(txn)
    while txn.f:nbsrv("ready") == 0 and txn.f:nbsrv("alive") == 0 and os.time() - started < START_SECONDS do
        core.msleep(POLL_MS)
    end
end

core.register_action("find_agent", { "http-req" }, find_agent)
core.register_action("await_replica", { "http-req" }, await_replica)
