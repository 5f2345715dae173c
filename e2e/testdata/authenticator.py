"""A Flatpak authenticator on the session bus that gives every ref the token in
the file of its first argument. It prints what it is asked for."""
import sys

from gi.repository import Gio, GLib

NAME = "org.freedesktop.Flatpak.Authenticator"
PATH = "/org/freedesktop/Flatpak/Authenticator"
INFO = Gio.DBusNodeInfo.new_for_xml(f"""<node>
<interface name="{NAME}"><property name="version" type="u" access="read"/><method name="RequestRefTokens">
<arg type="s" direction="in"/><arg type="a{{sv}}" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/>
<arg type="a(ssia{{sv}})" direction="in"/><arg type="a{{sv}}" direction="in"/><arg type="s" direction="in"/><arg type="o" direction="out"/>
</method></interface>
<interface name="{NAME}Request"><method name="Close"/><signal name="Response"><arg type="u"/><arg type="a{{sv}}"/></signal></interface>
</node>""")


def call(bus, sender, _path, _interface, method, arguments, invocation):
    if method != "RequestRefTokens":
        invocation.return_value(None)
        return
    handle, _, _, uri, refs, _, _ = arguments.unpack()
    print("asked for", ", ".join(f"{ref[0]} type {ref[2]}" for ref in refs), "of", uri, flush=True)
    request = f"{PATH}/request/{sender[1:].replace('.', '_')}/{handle}"
    bus.register_object(request, INFO.interfaces[1], call, None, None)
    invocation.return_value(GLib.Variant("(o)", (request,)))
    tokens = {open(sys.argv[1]).read().strip(): [ref[0] for ref in refs]}
    answer = GLib.Variant("(ua{sv})", (0, {"tokens": GLib.Variant("a{sas}", tokens)}))
    # The client listens when it has the answer to its call.
    GLib.timeout_add(100, lambda: bus.emit_signal(sender, request, NAME + "Request", "Response", answer) and False)


def version(*_):
    return GLib.Variant("u", 1)


Gio.bus_own_name(
    Gio.BusType.SESSION, "org.test.Authenticator", Gio.BusNameOwnerFlags.NONE,
    lambda bus, _: bus.register_object(PATH, INFO.interfaces[0], call, version, None),
    lambda *_: print("ready", flush=True), lambda *_: sys.exit("no session bus"))
GLib.MainLoop().run()
