"""Which fio options there are, sorted by what they do to the requests (fio 3.33: `fio --cmdhelp=all`, `--enghelp`)."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALIASES = {
    "readwrite": "rw",
    "blocksize": "bs",
    "blocksize_range": "bsrange",
    "blocksize_unaligned": "bs_unaligned",
    "io_limit": "io_size",
    "wait_for_previous": "stonewall",
}
USED = _names("""
bs bs_unaligned bsrange bssplit io_size iodepth ioengine kb_base loops norandommap number_ios numjobs offset
offset_increment randseed rw rwmixread rwmixwrite size stonewall
""")

TOLERATED = {
    "time_based": "the job runs for a time in fio; here it moves its size once (io_size or loops say otherwise)",
    "runtime": "no time passes here; the whole size is taken",
    "fsync": "the flushes it asks for are not counted",
    "fdatasync": "the flushes it asks for are not counted",
    "end_fsync": "the flush it asks for is not counted",
    "fsync_on_close": "the flush it asks for is not counted",
    "sync_file_range": "the flushes it asks for are not counted",
}
"""Options worth a note of their own when they are set."""

NEUTRAL: dict[str, frozenset[str]] = {
    "verify": frozenset({"0", "null"}),
    "random_distribution": frozenset({"random"}),
    "nrfiles": frozenset({"1"}),
    "percentage_random": frozenset({"100"}),
    "zonemode": frozenset({"none"}),
    "rw_sequencer": frozenset({"sequential"}),
    "file_append": frozenset({"0"}),
    "fill_device": frozenset({"0"}),
    "bs_is_seq_rand": frozenset({"0"}),
    "trim_percentage": frozenset({"0"}),
    "create_only": frozenset({"0"}),
    "verify_only": frozenset({"0"}),
}
"""Values with which an option of CHANGES does nothing."""
CHANGES = frozenset(NEUTRAL) | _names("""
ba blockalign exit_what exitall experimental_verify file_service_type filesize fill_fs flow flow_id flow_sleep
job_max_open_zones latency_percentile latency_run latency_target latency_window max_latency max_open_zones
merge_blktrace_file merge_blktrace_iters merge_blktrace_scalars offset_align opendir openfiles profile read_beyond_wp
read_iolog read_iolog_chunked replay_align replay_no_stall replay_redirect replay_scale replay_skip replay_time_scale
ss ss_dur ss_ramp steadystate steadystate_duration steadystate_ramp_time trim_backlog trim_backlog_batch
trim_verify_zero verify_backlog verify_backlog_batch zone_reset_frequency zone_reset_threshold zonecapacity zonerange
zonesize zoneskip
""")
"""Options that would change the requests, and are not modelled."""

SYNCHRONOUS = frozenset({"sync", "psync", "vsync", "pvsync", "pvsync2", "mmap", "splice"})
"""Engines with one request in flight whatever iodepth says (fio's manual, iodepth)."""
ENGINES = SYNCHRONOUS | {"libaio", "io_uring", "posixaio", "null", "sg"}
"""Engines that read and write a file or device."""

HARMLESS = _names("""
allow_file_create allow_mounted_write allrandrepeat atomic block_error_percentiles buffer_compress_chunk
buffer_compress_percentage buffer_pattern buffered bwavgtime cgroup cgroup_nodelete cgroup_weight clat_percentiles
clocksource cmdprio cmdprio_bssplit cmdprio_class cmdprio_percentage continue_on_error cpumask cpus_allowed
cpus_allowed_policy create_fsync create_on_open create_serialize dedupe_global dedupe_mode dedupe_percentage
dedupe_working_set_percentage description direct directory disable_bw disable_bw_measurement disable_clat disable_lat
disable_slat disk_util do_verify error_dump exec_postrun exec_prerun exitall_on_error fadvise_hint fallocate filename
filename_format fixedbufs force_async gid group_reporting gtod_cpu gtod_reduce hipri hipri_percentage hugepage-size
ignore_error invalidate io_submit_mode iodepth_batch iodepth_batch_complete iodepth_batch_complete_max
iodepth_batch_complete_min iodepth_batch_submit iodepth_low iomem iomem_align iopsavgtime ioscheduler lat_percentiles
lockfile lockmem log_alternate_epoch log_alternate_epoch_clock_id log_avg_msec log_compression log_compression_cpus
log_entries log_hist_coarseness log_hist_msec log_max_value log_offset log_prio log_store_compressed log_unix_epoch mem
name new_group nice nonvectored nowait numa_cpu_nodes numa_mem_policy overwrite per_job_logs percentile_list pre_read
prio prioclass ramp_time random_generator randrepeat rate rate_cycle rate_ignore_thinktime rate_iops rate_iops_min
rate_min rate_process readfua refill_buffers registerfiles scramble_buffers serialize_overlap sg_write_mode
significant_figures slat_percentiles softrandommap sqthread_poll sqthread_poll_cpu startdelay stats stream_id sync thp
thinktime thinktime_blocks thinktime_blocks_type thinktime_iotime thinktime_spin thread uid unified_rw_reporting
unique_filename unit_base unlink unlink_each_loop userspace_reap verify_async verify_async_cpus verify_dump
verify_fatal verify_interval verify_offset verify_pattern verify_state_load verify_state_save wait_for write_barrier
write_bw_log write_hint write_hist_log write_iolog write_iops_log write_lat_log writefua zero_buffers
""")
"""Options that leave size, place, direction and number of the requests alone (they may change when they are issued)."""
KNOWN = USED | frozenset(TOLERATED) | CHANGES | HARMLESS | frozenset(ALIASES)
