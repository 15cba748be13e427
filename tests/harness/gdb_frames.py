# Run inside gdb, attached to a process: every frame of every thread, one a line, fields parted by tabs.
# What `thread apply all bt` prints comes from the same calls (find_frame_funname); here it need not be
# picked from text, and a frame says what kind it is.
#
#   thread <tab> LWP <tab> name
#   frame  <tab> pc <tab> kind <tab> name <tab> linkage name
#   end    <tab> why the last frame has no caller
import gdb

KINDS = {
    gdb.NORMAL_FRAME: "normal",
    gdb.INLINE_FRAME: "inlined",
    gdb.TAILCALL_FRAME: "tailcall",
    gdb.SIGTRAMP_FRAME: "signal",
}

for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("thread\t%d\t%s" % (thread.ptid[1], thread.name))
    frame = gdb.newest_frame()
    reason = ""
    count = 0
    while frame is not None and count < 2000:
        symbol = frame.function()
        linkage = symbol.linkage_name if symbol is not None else ""
        print("frame\t%#x\t%s\t%s\t%s" % (frame.pc(), KINDS.get(frame.type(), "other"), frame.name() or "??", linkage or ""))
        count += 1
        try:
            caller = frame.older()
        except gdb.error as error:
            reason = str(error)
            break
        if caller is None and frame.unwind_stop_reason() not in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST):
            reason = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
        frame = caller
    print("end\t%s" % reason.replace("\t", " ").replace("\n", " "))
