package org.apache.toree.kernel.protocol.v5.stream

import java.io.{ByteArrayOutputStream, OutputStream}
import java.nio.charset.CodingErrorAction.REPLACE
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.{ByteBuffer, CharBuffer}

import scala.language.reflectiveCalls

import org.apache.toree.kernel.protocol.v5.content.StreamContent
import org.apache.toree.kernel.protocol.v5.kernel.ActorLoader
import org.apache.toree.kernel.protocol.v5.{KMBuilder, MessageType, SystemActorType}
import org.apache.toree.utils.ScheduledTaskManager

object KernelOutputStream {
  val DefaultStreamType = "stdout"
  val DefaultSendEmptyOutput = false
}

/** The output of a cell, sent when it ends and every 100 ms.
  *
  * It replaces Toree's own class, which drops white space that is sent alone, such as the end of a line,
  * and splits characters.
  */
class KernelOutputStream(
  actorLoader: ActorLoader,
  kmBuilder: KMBuilder,
  scheduledTaskManager: ScheduledTaskManager,
  streamType: String,
  sendEmptyOutput: Boolean
) extends OutputStream {
  private val decoder = UTF_8.newDecoder.onMalformedInput(REPLACE).onUnmappableCharacter(REPLACE)
  private val unsent = new ByteArrayOutputStream
  private var flushing: Option[String] = None

  override def write(byte: Int): Unit = synchronized {
    if (flushing.isEmpty) flushing = Some(scheduledTaskManager.addTask(task = flush()))
    unsent.write(byte)
  }

  override def flush(): Unit = synchronized {
    flushing.foreach(scheduledTaskManager.removeTask)
    flushing = None
    val bytes = ByteBuffer.wrap(unsent.toByteArray)
    val text = CharBuffer.allocate(bytes.remaining)
    decoder.decode(bytes, text, false)
    text.flip()
    unsent.reset()
    unsent.write(bytes.array, bytes.position, bytes.remaining) // the beginning of a character
    if (sendEmptyOutput || text.hasRemaining) send(text.toString)
  }

  private def send(text: String): Unit =
    actorLoader.load(SystemActorType.KernelMessageRelay) ! kmBuilder
      .withIds(Seq(MessageType.Outgoing.Stream.toString.getBytes))
      .withHeader(MessageType.Outgoing.Stream)
      .withContentString(StreamContent(streamType, text))
      .build
}
