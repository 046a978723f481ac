/* On a device that queues its work: the order between what computes and what communicates, and the ledger's
 * records of collectives that the host has queued and the device has not done yet.
 *
 * Two streams of the device take part: the caller's, and the one for communication. A collective begins with
 * the second waiting for all that is queued on the first, and ends with a mark on the second, known by a
 * ticket, for which the first waits at once or later. Marks are taken in turn from a ring; when all are in
 * use, which bounds how far the host runs ahead, the host waits for the oldest.
 *
 * Open records are closed in the order of their tickets, as soon as the host sees that a mark is reached: at
 * the next collective, and again and again while the host waits for the device (weft_device_set_poll). The
 * oldest that is open is where the ledger says that this rank waits. A communicator that has failed is
 * noticed at the same places; it ends the process. */
#ifndef WEFT_COMM_ORDER_H
#define WEFT_COMM_ORDER_H

#include "parallel/comm.h"

typedef struct weft_comm_order weft_comm_order;

/* For c->device. c stays in its place. */
weft_status weft_order_open(weft_comm_order **out, weft_comm *c);
void weft_order_close(weft_comm_order *o); /* waits for the device; NULL is allowed */

/* c->device with the stream for communication, and without workspace. */
weft_device *weft_order_side(weft_comm_order *o);

/* `record`: of the ledger. */
void weft_order_begin(weft_comm_order *o, uint64_t record);
uint64_t weft_order_end(weft_comm_order *o, weft_group_kind g, const char *tensor, uint64_t record);
void weft_order_wait(weft_comm_order *o, uint64_t ticket); /* the caller's stream does */

/* Closes the records of what is done; ends the process where a communicator has failed. NULL is allowed. */
void weft_order_poll(weft_comm_order *o);

#endif
