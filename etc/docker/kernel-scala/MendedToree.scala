package org.apache.toree.enterprisegateway // whose neighbours may see `iMain`

import java.io.OutputStream

import scala.collection.JavaConverters._
import scala.language.reflectiveCalls

import akka.actor.ActorSystem
import com.typesafe.config.{Config, ConfigValueFactory}
import org.apache.hadoop.security.UserGroupInformation
import org.apache.spark.sql.SparkSession
import org.apache.toree.boot.layer._
import org.apache.toree.boot.{CommandLineOptions, KernelBootstrap}
import org.apache.toree.interpreter.{Interpreter, Results}
import org.apache.toree.kernel.interpreter.scala.ScalaInterpreter
import org.apache.toree.kernel.interpreter.sql.SqlInterpreter
import org.apache.toree.kernel.protocol.v5.kernel.ActorLoader
import org.apache.toree.kernel.protocol.v5.{MessageType, SocketType}
import org.apache.toree.utils.LogLike
import sun.misc.{Signal, SignalHandler}

/** Apache Toree with fixes for lost kernels and lost output. */
object MendedToree extends App {
  // Spark asks Hadoop for its user, and Hadoop the system, which has no name for most user ids.
  if (sys.props("user.name") == "?")
    UserGroupInformation.setLoginUser(UserGroupInformation.createRemoteUser("jovyan"))

  private val interpreters = Seq("Scala" -> classOf[AnsweringInterpreter], "SQL" -> classOf[SqlInterpreter])
  private val config = new CommandLineOptions(args).toConfig.withValue(
    "default_interpreter_plugin",
    ConfigValueFactory.fromIterable(interpreters.map { case (name, made) => s"$name:${made.getName}" }.asJava)
  )
  private val kernel = new KernelBootstrap(config)
    with OrderedOutput
    with StandardComponentInitialization
    with StandardHandlerInitialization
    with InterruptHook

  try kernel.initialize() catch {
    case failure: Throwable => // other threads would go on without a kernel
      failure.printStackTrace()
      sys.exit(1)
  }
  kernel.waitForTermination().shutdown()
}

/** Sends iopub messages to the iopub actor directly.
  *
  * Toree puts an actor for each type of message in between, so that a cell's idle status may overtake its
  * value or its error. Clients that listen until a cell is idle would never see them.
  */
trait OrderedOutput extends StandardBareInitialization {
  this: LogLike =>

  private val published: Set[Enumeration#Value] = {
    import MessageType.Outgoing._
    Set(ClearOutput, CommClose, CommMsg, CommOpen, DisplayData, Error, ExecuteInput, ExecuteResult, Status, Stream)
  }

  override protected def createActorLoader(actorSystem: ActorSystem): ActorLoader = {
    val loader = super.createActorLoader(actorSystem)
    new ActorLoader {
      override def load(actor: Enumeration#Value) = loader.load(if (published(actor)) SocketType.IOPub else actor)
    }
  }
}

/** Scala's interpreter; it answers every cell. */
class AnsweringInterpreter(config: Config) extends ScalaInterpreter(config) {

  /** Clears the errors of a completeness check, which would be reported for the next cell. */
  override def isComplete(code: String): (String, String) =
    try super.isComplete(code) finally iMain.reporter.reset()

  /** Supplies a text for an error without one, as after `%showoutput off`; Toree would fail on it. */
  override def interpret(code: String, silent: Boolean, output: Option[OutputStream]) =
    try super.interpret(code, silent, output) catch {
      case _: NoSuchElementException => (Results.Error, Right(interpretConstructExecuteError("")))
    }
}

/** Interrupts cells on SIGINT, and on the signal of `--alternate-sigint`.
  *
  * Toree's own interrupt creates a Spark context first, and interrupts the cell's thread, which a loop
  * that never checks ignores. A second one within three seconds ends the kernel.
  */
trait InterruptHook extends StandardHookInitialization {
  this: KernelBootstrap with LogLike =>

  /** Milliseconds that a cell has to end by itself and run its `finally` blocks. */
  private val Patience = 1000L

  override def initializeHooks(config: Config, interpreter: Interpreter): Unit = {
    val path = "alternate_sigint"
    val names = "INT" +: (if (config.hasPath(path)) Seq(config.getString(path)) else Seq.empty)
    for (name <- names) {
      Signal.handle(new Signal(name), new SignalHandler {
        override def handle(signal: Signal): Unit = interrupt()
      })
    }
  }

  private def interrupt(): Unit = {
    SparkSession.getDefaultSession.foreach(_.sparkContext.cancelAllJobs())
    val before = cells()
    before.keys.foreach(_.interrupt())
    if (before.nonEmpty) Thread.sleep(Patience)
    // Deprecated, since it releases locks whatever state they guard. The alternative is to kill the kernel.
    for ((thread, cell) <- cells() if cell.isDefined && before.get(thread).contains(cell)) thread.stop()
  }

  /** The threads that compile or run a cell, not those that a cell has started; and the outermost class that
    * the interpreter made of the cell, which no other cell has. A cell that is being compiled has none yet.
    */
  private def cells(): Map[Thread, Option[String]] =
    for {
      (thread, stack) <- Thread.getAllStackTraces.asScala.toMap
      names = stack.map(_.getClassName)
      if names.exists(_.startsWith("scala.tools.nsc.interpreter.IMain"))
    } yield thread -> names.reverse.find(_.startsWith("$line"))
}
