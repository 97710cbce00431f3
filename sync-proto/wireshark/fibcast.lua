-- Wireshark dissector of the fibcast sync protocol, version 1: frames, states, batches with their records. PROTOCOL.md is the reference.
--
--   tshark -X lua_script:fibcast.lua -r session.pcap -O fibcast
--   or copy it to ~/.local/lib/wireshark/plugins/
--
-- TCP port 7830; other ports with "Decode as". A route's label travels in full once per batch and as an index from then on: the
-- dictionary is kept per batch and direction, in the order in which Wireshark reads the capture first.

local fibcast = Proto("fibcast", "fibcast sync protocol")

local kinds = {
    [1] = "Hello", [2] = "Register", [3] = "Welcome", [4] = "Activate", [5] = "Deactivate", [6] = "Begin", [7] = "Records",
    [8] = "Commit", [9] = "Equal", [10] = "Symbols", [11] = "More", [12] = "Want", [13] = "Heartbeat", [14] = "Error",
    [128] = "Installed", [129] = "Refused",
}
local roles = { [0] = "primary", [1] = "secondary" }
local modes = { [0] = "changes", [1] = "snapshot", [2] = "reconcile" }
local families = { [0] = "none", [4] = "IPv4", [6] = "IPv6" }
local reasons = {
    [0] = "not refused", [1] = "unknown port", [2] = "table full", [3] = "refused by the kernel", [4] = "a route of somebody else", [5] = "not supported",
}
local groups = { [0] = "hops", [1] = "blackhole", [2] = "unreachable", [3] = "prohibit", [4] = "local" }

local f = {
    type = ProtoField.uint8("fibcast.type", "Type", base.DEC, kinds),
    length = ProtoField.uint24("fibcast.length", "Length"),
    version = ProtoField.uint64("fibcast.version", "Version"),
    name = ProtoField.string("fibcast.name", "Node"),
    table = ProtoField.string("fibcast.table", "Table"),
    role = ProtoField.uint8("fibcast.role", "Role", base.DEC, roles),
    heartbeat = ProtoField.uint64("fibcast.heartbeat", "Heartbeat (ms)"),
    digest_key = ProtoField.uint64("fibcast.digest_key", "Digest key", base.HEX),
    path = ProtoField.string("fibcast.path", "Path"),
    subset = ProtoField.string("fibcast.subset", "Subset"),
    epoch = ProtoField.uint64("fibcast.epoch", "Epoch", base.HEX),
    serial = ProtoField.uint64("fibcast.serial", "Serial"),
    digest = ProtoField.bytes("fibcast.digest", "Digest"),
    records = ProtoField.uint64("fibcast.records", "Records in the table"),
    ready = ProtoField.bool("fibcast.ready", "Ready", 8, nil, 1),
    stale = ProtoField.bool("fibcast.stale", "Stale", 8, nil, 2),
    copy = ProtoField.bool("fibcast.copy", "Wants a copy"),
    mode = ProtoField.uint8("fibcast.mode", "Mode", base.DEC, modes),
    from = ProtoField.uint64("fibcast.from", "From serial"),
    count = ProtoField.uint64("fibcast.count", "Records in the batch"),
    first = ProtoField.uint64("fibcast.first", "First symbol"),
    symbols = ProtoField.uint64("fibcast.symbols", "Symbols"),
    until_ = ProtoField.uint64("fibcast.until", "Symbols wanted up to"),
    last = ProtoField.bool("fibcast.last", "Last"),
    wanted = ProtoField.uint64("fibcast.wanted", "Identities wanted"),
    identity = ProtoField.uint64("fibcast.identity", "Identity", base.HEX),
    whole = ProtoField.bool("fibcast.whole", "Replaces what was said before", 8, nil, 1),
    more = ProtoField.uint64("fibcast.more", "Further refused routes"),
    refused = ProtoField.string("fibcast.refused", "Refused"),
    text = ProtoField.string("fibcast.error", "Error"),
    record = ProtoField.string("fibcast.record", "Record"),
    rest = ProtoField.bytes("fibcast.unknown", "Not known to this dissector"),
}
fibcast.fields = f

local malformed = ProtoExpert.new("fibcast.malformed", "Frame ends inside a field", expert.group.MALFORMED, expert.severity.ERROR)
local closing = ProtoExpert.new("fibcast.error", "The session ends with an error", expert.group.RESPONSE_CODE, expert.severity.WARN)
fibcast.experts = { malformed, closing }

-- A reader of one body. Past the end it raises an error, which the frame's dissection turns into "malformed".
local Reader = {}
Reader.__index = Reader

local function reader(buffer) return setmetatable({ buffer = buffer, at = 0 }, Reader) end

function Reader:left() return self.buffer:len() - self.at end

function Reader:range(n)
    if n > self:left() then error("truncated", 0) end
    local range = self.buffer(self.at, n)
    self.at = self.at + n
    return range
end

function Reader:u8() return self:range(1):uint() end

-- A varint and the bytes it stands in. Values of more than 64 bits keep their low ones; `digits` has all groups of 7 bits.
function Reader:varint()
    local begin, value, shift, digits = self.at, UInt64(0), 0, {}
    repeat
        local byte = self:u8()
        local low = byte % 128
        digits[#digits + 1] = low
        if shift < 64 then value = value + UInt64(low):lshift(shift) end
        shift = shift + 7
    until byte < 128 or #digits > 19
    return value, self.buffer(begin, self.at - begin), digits
end

function Reader:number() return (self:varint()):tonumber() end

function Reader:text()
    local n = self:number()
    local range = n > 0 and self:range(n) or nil
    return range and range:string() or "", range
end

local function add_varint(tree, field, r)
    local value, range = r:varint()
    tree:add(field, range, value)
    return value:tonumber()
end

local function add_text(tree, field, r)
    local begin = r.at
    local text = r:text()
    tree:add(field, r.buffer(begin, r.at - begin), text)
    return text
end

local function add_path(tree, r)
    local begin, names = r.at, {}
    for _ = 1, r:number() do names[#names + 1] = r:text() end
    local text = #names > 0 and table.concat(names, " > ") or "(itself)"
    tree:add(f.path, r.buffer(begin, r.at - begin), text)
end

local function add_digest(tree, r)
    tree:add(f.digest, r:range(16))
    add_varint(tree, f.records, r)
end

local function add_state(tree, r)
    tree:add(f.epoch, r:range(8))
    local serial = add_varint(tree, f.serial, r)
    add_digest(tree, r)
    local flags = r:range(1)
    tree:add(f.ready, flags)
    tree:add(f.stale, flags)
    add_path(tree, r)
    local ready, stale = flags:uint() % 2 == 1, math.floor(flags:uint() / 2) % 2 == 1
    return string.format("serial %d, %s%s", serial, ready and "ready" or "not ready", stale and ", stale" or "")
end

local function address_text(width, bytes)
    if width == 4 then return table.concat(bytes, ".") end
    -- RFC 5952: the longest run of zero words, if there are two or more, is "::".
    local words, best, best_at, run = {}, 1, nil, 0
    for i = 1, 16, 2 do
        local word = bytes[i] * 256 + bytes[i + 1]
        words[#words + 1] = string.format("%x", word)
        run = word == 0 and run + 1 or 0
        if run > best then best, best_at = run, #words - run + 1 end
    end
    if not best_at then return table.concat(words, ":") end
    return table.concat(words, ":", 1, best_at - 1) .. "::" .. table.concat(words, ":", best_at + best, 8)
end

-- A prefix of which only the bytes that its length reaches are there.
local function read_prefix(r, width, length)
    local bytes = {}
    for i = 1, width do bytes[i] = i <= math.ceil(length / 8) and r:u8() or 0 end
    return string.format("%s/%d", address_text(width, bytes), length)
end

local function add_subset(tree, r)
    local begin, parts = r.at, {}
    local vrfs = {}
    for _ = 1, r:number() do vrfs[#vrfs + 1] = tostring(r:number()) end
    if #vrfs > 0 then parts[#parts + 1] = "vrf " .. table.concat(vrfs, ",") end
    local family = r:u8()
    if family ~= 0 then parts[#parts + 1] = families[family] or ("family " .. family) end
    for _ = 1, r:number() do
        local width = r:u8() == 4 and 4 or 16
        local length, min, max = r:u8(), r:u8(), r:u8()
        parts[#parts + 1] = string.format("%s %d-%d", read_prefix(r, width, length), min, max)
    end
    local text = #parts > 0 and table.concat(parts, "; ") or "everything"
    tree:add(f.subset, r.buffer(begin, r.at - begin), text)
    return text
end

-- Addresses are lists of bits, most significant first: Lua's numbers do not hold 128 of them.
local function bits_of(digits, n)
    local bits = {}
    for i = 1, n do
        local at = n - i
        local digit = digits[math.floor(at / 7) + 1] or 0
        bits[i] = math.floor(digit / 2 ^ (at % 7)) % 2
    end
    return bits
end

-- previous >> s plus or minus by, in n bits.
local function step(previous, by, n, backwards)
    local sum, carry = {}, 0
    for i = n, 1, -1 do
        local value = backwards and previous[i] - by[i] - carry or previous[i] + by[i] + carry
        carry = (value < 0 or value > 1) and 1 or 0
        sum[i] = value % 2
    end
    return sum
end

local function bytes_of(bits, width)
    local bytes = {}
    for i = 1, width do
        local value = 0
        for j = 1, 8 do value = value * 2 + (bits[(i - 1) * 8 + j] or 0) end
        bytes[i] = value
    end
    return bytes
end

local function label_text(range) return tostring(range:bytes()):lower() end

local function add_run(tree, r, tag, labels)
    local begin = r.at - 1
    local gone, rib = math.floor(tag / 32) % 2 == 1, math.floor(tag / 16) % 2 == 1
    local width = tag % 16 == 1 and 4 or 16
    local head = string.format("vrf %d", r:number())
    if rib then head = head .. " origin " .. label_text(r:range(8)) end
    if rib and not gone then head = head .. string.format(" distance %d metric %d", r:u8(), r:number()) end
    local n = r:range(2):uint()
    local run = tree:add(f.record, r.buffer(begin, r.at - begin),
        string.format("%d %s routes %s: %s", n, width == 4 and "IPv4" or "IPv6", gone and "withdrawn" or "announced", head))
    local address, label = {}, nil
    for i = 1, width * 8 do address[i] = 0 end
    for _ = 1, n do
        local at = r.at
        local first = r:u8()
        local length = width == 4 and first % 64 or r:u8()
        if length > width * 8 then error("length", 0) end
        local _, _, digits = r:varint()
        local now = step(address, bits_of(digits, length), length, first >= 128)
        for i = 1, width * 8 do address[i] = now[i] or 0 end
        if not gone and math.floor(first / 64) % 2 == 0 then
            local index = r:number()
            if index >= #labels then
                label = label_text(r:range(8))
                labels[#labels + 1] = label
            else
                label = labels[index + 1]
            end
        end
        local text = string.format("%s/%d", address_text(width, bytes_of(address, width)), length)
        run:add(f.record, r.buffer(at, r.at - at), gone and text or (text .. " -> " .. (label or "?")))
    end
    return n
end

local function group_text(r)
    local kind = r:u8()
    if kind ~= 0 then return groups[kind] or ("kind " .. kind) end
    local hops = {}
    for _ = 1, r:number() do
        local family = r:u8()
        local bytes = {}
        for i = 1, family == 4 and 4 or family == 6 and 16 or 0 do bytes[i] = r:u8() end
        local hop = family == 0 and "on the link" or address_text(#bytes, bytes)
        local port = r:text()
        if port ~= "" then hop = hop .. " port " .. port end
        hops[#hops + 1] = hop .. " weight " .. r:number()
    end
    return table.concat(hops, ", ")
end

local function add_records(tree, r, labels)
    local count = 0
    while r:left() > 0 do
        local begin = r.at
        local tag = r:u8()
        local text
        if tag == 4 then
            local label = label_text(r:range(8))
            text = "group " .. label .. ": " .. group_text(r)
        elseif tag == 5 then
            text = "group deleted: " .. label_text(r:range(8))
        elseif tag == 6 then
            local id = label_text(r:range(8))
            local name, server = r:text(), r:text()
            local epoch = label_text(r:range(8))
            local sequence, ready, lease, stale = r:number(), r:u8() ~= 0, r:number(), r:u8() ~= 0
            text = string.format("origin %s: %s beside %s, epoch %s, sequence %d, %s, lease %d ms%s", id, name, server, epoch,
                sequence, ready and "ready" or "not ready", lease, stale and ", stale" or "")
        elseif tag == 7 then
            text = "origin deleted: " .. label_text(r:range(8))
        elseif tag == 8 then
            local key, value = r:text(), r:text()
            text = string.format("opaque %q: %d bytes", key, #value)
        elseif tag == 9 then
            text = string.format("opaque deleted: %q", (r:text()))
        elseif tag % 16 == 1 or tag % 16 == 2 then
            count = count + add_run(tree, r, tag, labels)
        else
            tree:add(f.rest, r.buffer(begin))
            return count
        end
        if text then
            tree:add(f.record, r.buffer(begin, r.at - begin), text)
            count = count + 1
        end
    end
    return count
end

-- Label dictionaries: what a batch had named when a Records frame began, by packet and place in the stream.
local batches, starts = {}, {}

function fibcast.init() batches, starts = {}, {} end

local function stream_of(pinfo)
    return table.concat({ tostring(pinfo.src), pinfo.src_port, tostring(pinfo.dst), pinfo.dst_port }, " ")
end

local function labels_for(pinfo, place)
    local key = pinfo.number .. ":" .. place
    if not pinfo.visited or not starts[key] then
        local known = {}
        for i, label in ipairs(batches[stream_of(pinfo)] or {}) do known[i] = label end
        starts[key] = known
    end
    local labels = {}
    for i, label in ipairs(starts[key]) do labels[i] = label end
    return labels
end

local dissect = {
    [1] = function(tree, r)
        r:range(4)
        add_varint(tree, f.version, r)
        return add_text(tree, f.name, r)
    end,
    [2] = function(tree, r)
        local name = add_text(tree, f.table, r)
        tree:add(f.role, r:range(1))
        add_varint(tree, f.heartbeat, r)
        tree:add(f.digest_key, r:range(8))
        add_path(tree, r)
        return name .. ", " .. add_subset(tree, r)
    end,
    [3] = add_state,
    [4] = function(tree, r)
        tree:add(f.epoch, r:range(8))
        local serial = add_varint(tree, f.serial, r)
        add_digest(tree, r)
        tree:add(f.copy, r:range(1))
        return "serial " .. serial
    end,
    [6] = function(tree, r, pinfo)
        local mode = r:range(1)
        tree:add(f.mode, mode)
        local from = add_varint(tree, f.from, r)
        if not pinfo.visited then batches[stream_of(pinfo)] = {} end
        return string.format("%s from %d", modes[mode:uint()] or "?", from)
    end,
    [7] = function(tree, r, pinfo, place)
        local labels = labels_for(pinfo, place)
        local count = add_records(tree, r, labels)
        if not pinfo.visited then batches[stream_of(pinfo)] = labels end
        return count .. " records"
    end,
    [8] = function(tree, r)
        tree:add(f.epoch, r:range(8))
        local serial = add_varint(tree, f.serial, r)
        local count = add_varint(tree, f.count, r)
        add_digest(tree, r)
        return string.format("serial %d, %d records", serial, count)
    end,
    [9] = function(tree, r)
        tree:add(f.epoch, r:range(8))
        return "serial " .. add_varint(tree, f.serial, r)
    end,
    [10] = function(tree, r)
        add_varint(tree, f.serial, r)
        add_varint(tree, f.records, r)
        local first, n = add_varint(tree, f.first, r), add_varint(tree, f.symbols, r)
        return string.format("%d to %d", first, first + n - 1)
    end,
    [11] = function(tree, r) return "until " .. add_varint(tree, f.until_, r) end,
    [12] = function(tree, r)
        tree:add(f.last, r:range(1))
        local n = add_varint(tree, f.wanted, r)
        for _ = 1, n do tree:add(f.identity, r:range(8)) end
        return n .. " records"
    end,
    [13] = function(tree, r) return r:left() > 0 and add_state(tree, r) or "" end,
    [14] = function(tree, r)
        local text = add_text(tree, f.text, r)
        tree:add_proto_expert_info(closing, text)
        return text
    end,
    [128] = function(tree, r)
        tree:add(f.epoch, r:range(8))
        local next, range = r:varint()
        if next:tonumber() == 0 then return "nothing any more" end
        tree:add(f.serial, range, next - 1)
        return "serial " .. (next - 1):tonumber()
    end,
    [129] = function(tree, r)
        tree:add(f.epoch, r:range(8))
        local flags = r:range(1)
        tree:add(f.whole, flags)
        local more, n = add_varint(tree, f.more, r), r:number()
        for _ = 1, n do
            local begin = r.at
            local reason, vrf = r:u8(), r:number()
            local width, length = r:u8() == 4 and 4 or 16, r:u8()
            if length > width * 8 then error("length", 0) end
            local text = string.format("vrf %d %s: %s", vrf, read_prefix(r, width, length), reasons[reason] or ("reason " .. reason))
            tree:add(f.refused, r.buffer(begin, r.at - begin), text)
        end
        local whole = flags:uint() % 2 == 1 and ", whole" or ""
        return string.format("%d routes%s%s", n, more > 0 and string.format(", %d more", more) or "", whole)
    end,
}

local function frame(buffer, pinfo, tree)
    local kind, length = buffer(0, 1):uint(), buffer(1, 3):uint()
    local name = kinds[kind] or (kind >= 128 and "optional " or "unknown ") .. kind
    local own = tree:add(fibcast, buffer(), "fibcast " .. name)
    own:add(f.type, buffer(0, 1))
    own:add(f.length, buffer(1, 3))
    local info = name
    if dissect[kind] then
        local r = reader(length > 0 and buffer(4, length):tvb() or ByteArray.new():tvb("empty"))
        local good, text = pcall(dissect[kind], own, r, pinfo, buffer:offset())
        if not good then
            own:add_proto_expert_info(malformed)
            text = "malformed"
        end
        if text and text ~= "" then
            info = name .. " (" .. text .. ")"
            own:append_text(": " .. text)
        end
    elseif length > 0 and not kinds[kind] then
        own:add(f.rest, buffer(4, length))
    end
    local column = tostring(pinfo.cols.info)
    pinfo.cols.info = (pinfo.private.fibcast and column .. ", " or "") .. info
    pinfo.private.fibcast = "1"
    return 4 + length
end

local function length_of(buffer, _, at) return 4 + buffer(at + 1, 3):uint() end

function fibcast.dissector(buffer, pinfo, tree)
    pinfo.cols.protocol = "fibcast"
    pinfo.private.fibcast = nil
    dissect_tcp_pdus(buffer, tree, 4, length_of, frame)
    return buffer:len()
end

DissectorTable.get("tcp.port"):add(7830, fibcast)
